import Glibc
import LinuxSystem
import Machines

/// xl(1): each call is a process of its own, and ends within its deadline.
@Loop
struct Toolstack: Sendable {
    /// xl's path.
    let program: String

    /// The running Xen's own, without the wrapper that looks for it at each call; else the first in the usual places.
    nonisolated static func find() throws(MachineError) -> Toolstack {
        let version = ["major", "minor"].map { part in
            // Without Xen there is no such file, and no xl is found then.
            ((try? readText("/sys/hypervisor/version/\(part)")) ?? "").prefix { !$0.isWhitespace }
        }
        let places =
            ["/usr/lib/xen-\(version.joined(separator: "."))/bin/xl", "/usr/local/sbin/xl", "/usr/sbin/xl", "/usr/bin/xl"]
        guard let found = places.first(where: { access($0, X_OK) == 0 }) else {
            throw MachineError(
                .missing, "xl was not found: install Xen's tools (Debian: xen-utils-\(version.joined(separator: ".")))")
        }
        return Toolstack(program: found)
    }

    nonisolated private init(program: String) { self.program = program }

    /// Makes the domain that the file describes, paused; nobody but us watches over it.
    func create(_ file: String) async throws {
        try await run(["create", "-p", "-e", "-q", file], "create the domain", seconds: 180)
    }
    func unpause(_ domain: UInt32) async throws { try await run(["unpause", "\(domain)"], "let the domain run") }
    func pause(_ domain: UInt32) async throws { try await run(["pause", "\(domain)"], "pause the domain") }
    /// Takes a domain away; it may go on dying for a moment.
    func destroy(_ domain: UInt32) async throws { try await run(["destroy", "\(domain)"], "destroy the domain") }
    /// All domains, by UUID.
    func domains() async throws -> [String: DomainState] {
        DomainList.parse(String(decoding: try await run(["list", "-v"], "list the domains"), as: UTF8.self))
    }
    /// What xl knows of the host: `name : value` lines.
    func facts() async throws -> [String: String] {
        let text = String(decoding: try await run(["info"], "ask Xen about the host"), as: UTF8.self)
        return Dictionary(
            text.split(separator: "\n").compactMap { line in
                line.firstIndex(of: ":").map { colon in
                    (Self.trimmed(line[..<colon]), Self.trimmed(line[line.index(after: colon)...]))
                }
            }, uniquingKeysWith: { first, _ in first })
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }

    @discardableResult
    private func run(_ arguments: [String], _ what: String, seconds: Int64 = 60) async throws -> [UInt8] {
        let output = try await withDeadline(.seconds(seconds), awaiting: "xl \(arguments[0])") {
            try await Spawn(program, arguments, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]).run()
        }
        guard output.status.isSuccess else {
            throw MachineError(
                .refused, "Xen did not \(what): \(output.complaint.isEmpty ? "xl ended without a word" : output.complaint)")
        }
        return output.standardOutput
    }
}
