/// What stands between Xen's toolstack and the QMP of a stubdomain's QEMU: it lets through the commands that a domain's life needs, each with
/// the arguments that it may have, and nothing else. QEMU never reads what the toolstack wrote, but a line that is made anew from what was
/// understood of it, so that both cannot understand it differently. Pure.
public struct ControlFilter: Sendable {
    /// What is to be done with something that came from the toolstack.
    public enum Step: Equatable, Sendable {
        /// To QEMU.
        case pass([UInt8])
        /// Back to the toolstack.
        case answer([UInt8])
    }
    /// What came is no line of QMP: the connection must end.
    public struct Malformed: Error, Equatable {
        public init() {}
    }

    /// The most bytes of a command's line.
    public static let commandLimit = 1024
    /// The most bytes of a line of QEMU's.
    public static let answerLimit = 65536
    /// The file descriptors that QEMU saves its devices to: they are for the stubdomain's console 1.
    public static let savingSet = "/dev/fdset/1"

    private enum Argument { case truth, savingSet }
    private struct Rule {
        var command: String
        var arguments: [(name: String, kind: Argument, isNeeded: Bool)] = []
    }
    /// What libxl asks of the device model of a domain that is made, paused, saved and restored (libxl_qmp.c, libxl_dom_suspend.c,
    /// libxl_dom_save.c of Xen 4.17).
    private static var rules: [Rule] {
        [
            Rule(command: "qmp_capabilities"), Rule(command: "query-status"), Rule(command: "query-cpus-fast"),
            Rule(command: "stop"), Rule(command: "cont"),
            Rule(command: "xen-set-global-dirty-log", arguments: [("enable", .truth, true)]),
            Rule(command: saving, arguments: [("live", .truth, false), ("filename", .savingSet, true)]),
        ]
    }

    private static let saving = "xen-save-devices-state"

    private var fromToolstack: [UInt8] = []
    private var fromQEMU: [UInt8] = []
    /// Whether each of the commands that QEMU has not answered yet saves its devices.
    private var unanswered: [Bool] = []
    private var hasSaved = false

    public init() {}

    /// What the toolstack said.
    public mutating func take<Bytes: Collection<UInt8>>(fromToolstack bytes: Bytes) throws(Malformed) -> [Step] {
        fromToolstack += bytes
        var steps: [Step] = []
        while let line = try Self.line(&fromToolstack, limit: Self.commandLimit) {
            guard let message = ControlMessage(line[...]) else { throw Malformed() }
            let step = Self.judge(message)
            if case .pass = step { unanswered.append(Self.saving.utf8.elementsEqual(message.command)) }
            steps.append(step)
        }
        return steps
    }

    /// Whether QEMU has saved its devices, since this was asked last. The toolstack takes the answer that says so for the word that it has them.
    public mutating func takeSaved() -> Bool {
        defer { hasSaved = false }
        return hasSaved
    }

    /// What QEMU said, as far as the toolstack is to know: its greeting and its answers, without its events.
    public mutating func take<Bytes: Collection<UInt8>>(fromQEMU bytes: Bytes) throws(Malformed) -> [UInt8] {
        fromQEMU += bytes
        var through: [UInt8] = []
        while let line = try Self.line(&fromQEMU, limit: Self.answerLimit) {
            guard let names = Self.outerNames(line) else { throw Malformed() }
            func has(_ name: String) -> Bool { names.contains { $0.elementsEqual(name.utf8) } }
            if has("event") { continue }
            guard has("QMP") || has("return") || has("error") else { throw Malformed() }
            if !has("QMP"), !unanswered.isEmpty, unanswered.removeFirst(), has("return") { hasSaved = true }
            through += line + [13, 10]
        }
        return through
    }

    /// The first whole line that is not empty, without its end.
    private static func line(_ bytes: inout [UInt8], limit: Int) throws(Malformed) -> [UInt8]? {
        while let end = bytes.firstIndex(of: 10) {
            guard end <= limit else { throw Malformed() }
            var line = Array(bytes[..<end])
            bytes.removeFirst(end + 1)
            if line.last == 13 { line.removeLast() }
            if !line.isEmpty { return line }
        }
        guard bytes.count <= limit else { throw Malformed() }
        return nil
    }

    private static func judge(_ message: ControlMessage) -> Step {
        let id = message.id.map { Array("\"id\":".utf8) + $0.bytes } ?? []
        guard let rule = rules.first(where: { $0.command.utf8.elementsEqual(message.command) }) else {
            return refuse("CommandNotFound", "The stubdomain lets this command not through", id)
        }
        var line = Array("{\"execute\":\"".utf8) + rule.command.utf8 + [34]
        var written: [UInt8] = []
        var known = 0
        for argument in rule.arguments {
            guard let given = message.arguments.first(where: { $0.name.elementsEqual(argument.name.utf8) }) else {
                if argument.isNeeded { return refuse("GenericError", "The command lacks an argument", id) }
                continue
            }
            known += 1
            switch (argument.kind, given.value) {
            case (.truth, .truth): break
            case (.savingSet, .text(let path)) where path.elementsEqual(savingSet.utf8): break
            default: return refuse("GenericError", "The stubdomain lets this argument not through", id)
            }
            if !written.isEmpty { written.append(44) }
            written += [34] + argument.name.utf8 + [34, 58] + given.value.bytes
        }
        guard known == message.arguments.count else {
            return refuse("GenericError", "The stubdomain lets this argument not through", id)
        }
        if !written.isEmpty { line += Array(",\"arguments\":{".utf8) + written + [125] }
        if !id.isEmpty { line += [44] + id }
        return .pass(line + [125, 13, 10])
    }

    private static func refuse(_ kind: String, _ words: String, _ id: [UInt8]) -> Step {
        let error = "\"error\":{\"class\":\"\(kind)\",\"desc\":\"\(words)\"}"
        return .answer([123] + (id.isEmpty ? [] : id + [44]) + error.utf8 + [125, 13, 10])
    }

    /// The names of an object's own fields; nil when the line is no whole object of printable ASCII.
    private static func outerNames(_ line: [UInt8]) -> [[UInt8]]? {
        var names: [[UInt8]] = []
        var depth = 0
        var isName = false
        var index = 0
        guard line.first == 123, line.allSatisfy({ (32...126).contains($0) || $0 == 9 }) else { return nil }
        while index < line.count {
            switch line[index] {
            case 123, 91:
                depth += 1
                isName = depth == 1
            case 125, 93:
                depth -= 1
                // Nothing may follow the object.
                if depth == 0 { return line[(index + 1)...].allSatisfy { $0 == 32 } ? names : nil }
            case 44 where depth == 1: isName = true
            case 34:
                var end = index + 1
                while end < line.count, line[end] != 34 { end += line[end] == 92 ? 2 : 1 }
                guard end < line.count else { return nil }
                if depth == 1, isName { names.append(Array(line[(index + 1)..<end])) }
                isName = false
                index = end
            default: break
            }
            index += 1
        }
        return nil
    }
}
