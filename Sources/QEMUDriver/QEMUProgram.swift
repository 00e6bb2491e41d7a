import CLinux
import Glibc
import LinuxSystem
import Machines

/// The host's QEMU.
struct QEMUProgram: Sendable, Hashable {
    var path: String

    /// The first of the usual places; HULL_QEMU names another.
    static func find() throws(MachineError) -> QEMUProgram {
        if let named = getenv("HULL_QEMU").map({ String(cString: $0) }), !named.isEmpty {
            if access(named, X_OK) == 0 { return QEMUProgram(path: named) }
            throw MachineError(.missing, "HULL_QEMU names \(named), which cannot be executed")
        }
        for path in ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"]
        where access(path, X_OK) == 0 {
            return QEMUProgram(path: path)
        }
        throw MachineError(
            .missing, "no QEMU was found: install the package qemu-system-x86 (Debian, Ubuntu) or qemu-kvm (Fedora)")
    }

    /// What it needs to see of the host besides /usr: for a build in a folder of its own, `/opt/qemu/bin/…`, that folder with its modules and
    /// firmware.
    var ownPlace: String? {
        if path.hasPrefix("/usr/") { return nil }
        let parts = path.split(separator: "/").map(String.init)
        return parts.count > 2 && parts[parts.count - 2] == "bin" ? "/" + parts.dropLast(2).joined(separator: "/") : path
    }

    /// Its version, e.g. (7, 2). Runs it.
    @Loop
    func version() async throws -> (major: Int, minor: Int) {
        let output = try await Spawn(path, ["--version"]).run(limit: 4096)
        guard let version = Self.parse(String(decoding: output.standardOutput, as: UTF8.self)) else {
            throw MachineError(.missing, "\(path) does not say its version: \(output.complaint)")
        }
        return version
    }

    /// `QEMU emulator version 7.2.19 (Debian …)`.
    static func parse(_ text: String) -> (major: Int, minor: Int)? {
        guard let range = text.firstRange(of: "version ") else { return nil }
        let numbers = text[range.upperBound...].prefix { $0.isNumber || $0 == "." }.split(separator: ".").compactMap { Int($0) }
        return numbers.count >= 2 ? (numbers[0], numbers[1]) : nil
    }
}
