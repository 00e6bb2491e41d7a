import CGuest

/// This domain's connection to Xen's store, which answers one question after the other (xen/include/public/io/xs_wire.h). Names without a slash in
/// front are below the domain's own folder.
struct Store: ~Copyable {
    private let file: Descriptor
    private enum Kind {
        static let directory: UInt32 = 1
        static let read: UInt32 = 2
        static let write: UInt32 = 11
        static let error: UInt32 = 16
    }

    init() throws(Failure) {
        do throws(KernelError) { file = try Descriptor("/dev/xen/xenbus", O_RDWR) } catch {
            throw Failure("Xen's store cannot be reached: \(error.words)")
        }
    }

    func read(_ name: String) throws(Failure) -> String { Scan.text(try ask(Kind.read, name, Array(name.utf8) + [0])) }

    /// The names below `name`, sorted.
    func list(_ name: String) throws(Failure) -> [String] {
        let all = Scan.split(try ask(Kind.directory, name, Array(name.utf8) + [0]), 0).filter { !$0.isEmpty }
        return all.map(Scan.text).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    func write(_ name: String, _ value: String) throws(Failure) {
        _ = try ask(Kind.write, name, Array(name.utf8) + [0] + Array(value.utf8))
    }

    private func ask(_ kind: UInt32, _ name: String, _ payload: [UInt8]) throws(Failure) -> [UInt8] {
        var message: [UInt8] = []
        for word in [kind, 1, 0, UInt32(payload.count)] {
            for shift in 0..<4 { message.append(UInt8(truncatingIfNeeded: word >> (8 * UInt32(shift)))) }
        }
        message += payload
        do throws(KernelError) { try file.writeOnce(message) } catch {
            throw Failure("asking Xen's store for \(name): \(error.words)")
        }
        let head = try receive(16, name)
        func word(_ index: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(head[4 * index + $1]) << UInt32(8 * $1) } }
        guard word(3) <= 4096 else { throw Failure("Xen's store answers \(name) with \(word(3)) bytes") }
        let answer = try receive(Int(word(3)), name)
        if word(0) == Kind.error { throw Failure("Xen's store refuses \(name): \(Scan.text(Array(answer.prefix { $0 != 0 })))") }
        return answer
    }

    private func receive(_ count: Int, _ name: String) throws(Failure) -> [UInt8] {
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while all.count < count {
            let got = CGuest.read(file.number, &chunk, count - all.count)
            if got <= 0 { throw Failure("Xen's store does not answer \(name): \(KernelError(guest_errno()).words)") }
            all += chunk[0..<got]
        }
        return all
    }
}

/// Why the stubdomain cannot go on.
struct Failure: Error {
    let message: String
    init(_ message: String) { self.message = message }
}
