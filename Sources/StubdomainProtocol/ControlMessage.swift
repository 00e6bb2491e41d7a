/// A command of QEMU's control protocol (QMP), as strictly read as it is needed: an object of strings without escapes, whole numbers, truth
/// values, and one level of arguments. Pure.
struct ControlMessage: Equatable {
    enum Value: Equatable {
        case text([UInt8])
        case number([UInt8])
        case truth(Bool)
    }

    private(set) var command: [UInt8] = []
    private(set) var id: Value?
    private(set) var arguments: [(name: [UInt8], value: Value)] = []

    /// Reads one line; nil when it is anything else.
    init?(_ line: ArraySlice<UInt8>) {
        var scanner = Scanner(rest: line)
        var seen: [[UInt8]] = []
        let isWhole = scanner.object { scanner, name in
            // Who reads it twice must find the same both times.
            if seen.contains(name) { return false }
            seen.append(name)
            if name == Array("execute".utf8) {
                guard case .text(let command) = scanner.value() else { return false }
                self.command = command
                return true
            }
            if name == Array("id".utf8) {
                id = scanner.value()
                return id != nil
            }
            guard name == Array("arguments".utf8) else { return false }
            return scanner.object { scanner, name in
                if arguments.contains(where: { $0.name == name }) { return false }
                guard let value = scanner.value() else { return false }
                arguments.append((name, value))
                return true
            }
        }
        guard isWhole, scanner.isAtEnd, !command.isEmpty else { return nil }
    }

    static func == (one: ControlMessage, other: ControlMessage) -> Bool {
        one.command == other.command && one.id == other.id && one.arguments.elementsEqual(other.arguments) { $0 == $1 }
    }
}

extension ControlMessage.Value {
    /// As it is written.
    var bytes: [UInt8] {
        switch self {
        case .text(let text): [34] + text + [34]
        case .number(let digits): digits
        case .truth(let truth): Array((truth ? "true" : "false").utf8)
        }
    }
}

/// Reads JSON's tokens from the front.
private struct Scanner {
    var rest: ArraySlice<UInt8>

    private mutating func skipSpace() {
        while let byte = rest.first, byte == 32 || byte == 9 || byte == 13 { rest.removeFirst() }
    }

    var isAtEnd: Bool {
        mutating get {
            skipSpace()
            return rest.isEmpty
        }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        skipSpace()
        guard rest.first == byte else { return false }
        rest.removeFirst()
        return true
    }

    /// Calls `field` for each name, which reads what follows; false as soon as anything is wrong.
    mutating func object(_ field: (inout Scanner, [UInt8]) -> Bool) -> Bool {
        guard take(123) else { return false }
        if take(125) { return true }
        repeat {
            guard let name = text(), take(58), field(&self, name) else { return false }
        } while take(44)
        return take(125)
    }

    mutating func value() -> ControlMessage.Value? {
        skipSpace()
        guard let first = rest.first else { return nil }
        switch first {
        case 34: return text().map { .text($0) }
        case 48...57:
            let digits = rest.prefix { (48...57).contains($0) }
            guard digits.count <= 19 else { return nil }
            rest = rest.dropFirst(digits.count)
            return .number(Array(digits))
        default:
            for (word, truth) in [("true", true), ("false", false)] where rest.starts(with: word.utf8) {
                rest = rest.dropFirst(word.utf8.count)
                return .truth(truth)
            }
            return nil
        }
    }

    /// Printable ASCII without escapes.
    private mutating func text() -> [UInt8]? {
        guard take(34) else { return nil }
        let text = rest.prefix { (32...126).contains($0) && $0 != 34 && $0 != 92 }
        rest = rest.dropFirst(text.count)
        guard rest.first == 34 else { return nil }
        rest.removeFirst()
        return Array(text)
    }
}
