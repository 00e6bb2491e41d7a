import CLinux
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
        let places =
            ["/usr/lib/xen-\(version)/bin/xl", "/usr/local/sbin/xl", "/usr/sbin/xl", "/usr/bin/xl"]
        guard let found = places.first(where: { access($0, X_OK) == 0 }) else {
            throw MachineError(
                .missing, "xl was not found: install Xen's tools (Debian: xen-utils-\(version))")
        }
        return Toolstack(program: found)
    }

    /// The running Xen's version, e.g. `4.17`.
    nonisolated static var version: String {
        ["major", "minor"].map { part in
            // Without Xen there is no such file, and no xl is found then.
            String(((try? readText("/sys/hypervisor/version/\(part)")) ?? "").prefix { !$0.isWhitespace })
        }.joined(separator: ".")
    }

    nonisolated static var isXenRunning: Bool { access("/sys/hypervisor/version/major", F_OK) == 0 }

    nonisolated private init(program: String) { self.program = program }

    /// Makes the domain that the file describes, paused; nobody but us watches over it.
    func create(_ file: String) async throws {
        try await run(["create", "-p", "-e", "-q", file], "create the domain", seconds: 180)
    }
    /// The same, with what was saved in the file `state`.
    func restore(_ file: String, from state: String) async throws {
        try await run(["restore", "-p", "-e", file, state], "restore the domain", seconds: 600)
    }
    /// Saves a domain, which stands still then.
    func save(_ domain: UInt32, to state: SharedDescriptor) async throws {
        try await run(
            ["save", "-p", "\(domain)", "/proc/self/fd/3"], "save the domain", seconds: 600, passing: state)
    }
    func attachDisk(_ words: String, to domain: UInt32) async throws {
        try await run(["block-attach", "\(domain)", words], "give the domain a disk")
    }
    func detachDisk(_ name: String, from domain: UInt32) async throws {
        try await run(["block-detach", "\(domain)", name], "take the disk \(name) from the domain")
    }
    func attachNIC(_ words: String, to domain: UInt32) async throws {
        try await run(["network-attach", "\(domain)"] + words.split(separator: ",").map(String.init), "give the domain a NIC")
    }
    func detachNIC(_ number: Int, from domain: UInt32) async throws {
        try await run(["network-detach", "\(domain)", "\(number)"], "take a NIC from the domain")
    }
    /// Lets a domain run. Of one without a device model Xen itself is asked, which is all that xl would do; xl is where that cannot be.
    func unpause(_ domain: UInt32, hasDeviceModel: Bool) async throws {
        if !hasDeviceModel, hull_xen_pause(domain, 0) == 0 { return }
        try await run(["unpause", "\(domain)"], "let the domain run")
    }
    /// Stands it still, in the same way.
    func pause(_ domain: UInt32, hasDeviceModel: Bool) async throws {
        if !hasDeviceModel, hull_xen_pause(domain, 1) == 0 { return }
        try await run(["pause", "\(domain)"], "pause the domain")
    }
    /// Takes a domain away; it may go on dying for a moment.
    func destroy(_ domain: UInt32) async throws { try await run(["destroy", "\(domain)"], "destroy the domain") }
    /// All domains, by UUID.
    func domains() async throws -> [String: DomainState] {
        DomainList.parse(String(decoding: try await run(["list", "-v"], "list the domains"), as: UTF8.self))
    }
    /// How the domain `id` of a UUID is, nil where it is gone; `name` is its name. Xen itself is asked: each monitor wants to know it whenever any domain
    /// of the host ends or is saved, and an xl for each costs more than the end does. xl is where that cannot be.
    func state(of id: UInt32, uuid: String, name: String) async throws -> DomainState? {
        let flags = hull_xen_state(id)
        if flags >= 0 { return DomainState(id: id, name: name, flags: flags) }
        return flags == -Int(ESRCH) ? nil : try await domains()[uuid]
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
    private func run(
        _ arguments: [String], _ what: String, seconds: Int64 = 60,
        passing third: SharedDescriptor? = nil
    ) async throws -> [UInt8] {
        let output = try await withDeadline(.seconds(seconds), awaiting: "xl \(arguments[0])") {
            var how = Spawn(program, arguments, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            if let third { how.descriptors = [(third, 3)] }
            // Its progress comes line by line, and each would wake us beside it: what it says is read when it is through.
            let said = try makeMemoryFile("xl")
            how.descriptors.append((said, 2))
            var output = try await how.run()
            output.standardError = try readFile("/proc/self/fd/\(said.raw)")
            return output
        }
        guard output.status.isSuccess else {
            throw MachineError(
                .refused, "Xen did not \(what): \(output.complaint.isEmpty ? "xl ended without a word" : output.complaint)")
        }
        return output.standardOutput
    }
}
