import Glibc

/// The service manager of the host or of a user, asked over its own socket. On a host that it runs, every cgroup but those delegated is
/// its alone, so a container's is made as a transient scope. (org.freedesktop.systemd1(5); systemd.io/CGROUP_DELEGATION)
@Loop
public struct Systemd {
    private let socket: SharedDescriptor
    private var serial: UInt32 = 0
    private var buffer: [UInt8] = []

    /// Whether the host is run by systemd (sd_booted(3)).
    public nonisolated static var isThere: Bool { exists("/run/systemd/system") }

    /// Connects to the host's manager, or to the one of the user who is root of this user namespace.
    public init(user: Bool) async throws {
        let folder = user ? getenv("XDG_RUNTIME_DIR").map { String(cString: $0) } ?? "" : "/run"
        let path = "\(folder)/systemd/private"
        socket = try UnixSocket.connect(path)
        // Who we are the socket says itself; inside a user namespace the number would be another one here.
        try await socket.send(Array("\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".utf8))
        let said = SaidLines()
        while said.count < 2 {
            let bytes = try await received()
            buffer += bytes
            while said.count < 2, let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: buffer[..<end], as: UTF8.self)
                buffer.removeFirst(end + 1)
                said.count += 1
                if said.count == 2, !line.hasPrefix("OK ") { throw SystemError("log in to systemd", path, code: EACCES) }
            }
        }
    }

    private final class SaidLines { var count = 0 }

    private func received() async throws -> [UInt8] {
        let socket = socket
        let bytes = try await withDeadline(.seconds(20), awaiting: "systemd's answer") {
            try await socket.receive(capacity: 65536).bytes
        }
        if bytes.isEmpty { throw SystemError("ask systemd", code: ECONNRESET) }
        return bytes
    }

    /// What systemd refused.
    public struct Refusal: Error, CustomStringConvertible, Sendable {
        /// D-Bus's name of it.
        public var name: String
        public var text: String
        public var description: String { "systemd refuses: \(text)" }
    }

    private mutating func call(_ member: String, _ arguments: [BusMessage.Value]) async throws {
        serial += 1
        try await socket.send(BusMessage.call(member, arguments, serial: serial))
        while true {
            while let message = try BusMessage.next(&buffer) {
                guard let answer = message, answer.serial == serial else { continue }
                if let name = answer.error { throw Refusal(name: name, text: answer.text ?? name) }
                return
            }
            buffer += try await received()
        }
    }

    /// Starts a scope in `slice` with the process `pid` in it, whose cgroup is left to us; what an earlier scope of that name left is
    /// taken away first. The process is in it when this returns.
    public mutating func startScope(_ name: String, slice: String, description: String, pid: Int32) async throws {
        let properties: [(String, BusMessage.Value)] = [
            ("Description", .string(description)), ("Slice", .string(slice)), ("PIDs", .array("u", [.uint32(UInt32(pid))])),
            ("Delegate", .boolean(true)), ("DefaultDependencies", .boolean(false)),
            ("CollectMode", .string("inactive-or-failed")),
            ("MemoryAccounting", .boolean(true)), ("CPUAccounting", .boolean(true)), ("TasksAccounting", .boolean(true)),
            ("IOAccounting", .boolean(true)),
        ]
        let arguments: [BusMessage.Value] = [
            .string(name), .string("replace"), Self.list(properties), .array("(sa(sv))", []),
        ]
        let end = ContinuousClock.now + .seconds(10)
        while true {
            do {
                try await call("StartTransientUnit", arguments)
                break
            } catch let refusal as Refusal where refusal.name.hasSuffix(".UnitExists") && ContinuousClock.now < end {
                // A predecessor whose end systemd has not seen yet.
                try await stop(name)
                try await sleep(for: .milliseconds(20))
            }
        }
        while !((try readText("/proc/\(pid)/cgroup")).contains("/\(name)")) {
            guard ContinuousClock.now < end else { throw SystemError("wait for systemd to start", name, code: ETIMEDOUT) }
            try await sleep(for: .milliseconds(1))
        }
    }

    private mutating func stop(_ name: String) async throws {
        do { try await call("StopUnit", [.string(name), .string("replace")]) } catch is Refusal {}  // gone by itself
        do { try await call("ResetFailedUnit", [.string(name)]) } catch is Refusal {}  // it did not fail
    }

    /// Tells it the limits that a scope's cgroup has, so that it sets no others at its next reload: bytes, CPUs, processes, weight.
    public mutating func adopt(_ name: String, memory: UInt64?, cpus: Double?, processes: UInt64?, weight: UInt64?) async throws {
        var properties: [(String, BusMessage.Value)] = [
            ("MemoryMax", .uint64(memory ?? .max)), ("TasksMax", .uint64(processes ?? .max)),
            ("CPUQuotaPerSecUSec", .uint64(cpus.map { UInt64($0 * 1_000_000) } ?? .max)),
        ]
        if let weight { properties.append(("CPUWeight", .uint64(weight))) }
        try await call("SetUnitProperties", [.string(name), .boolean(true), Self.list(properties)])
    }

    private static func list(_ properties: [(String, BusMessage.Value)]) -> BusMessage.Value {
        .array("(sv)", properties.map { .structure([.string($0.0), .variant($0.1)]) })
    }
}

extension Cgroup {
    /// The scope of systemd's that it is, and its slice; nil where it is none: only v2 is systemd's alone.
    public var scope: (name: String, slice: String)? {
        let parts = path.split(separator: "/").map(String.init)
        guard isUnified, let name = parts.last, name.hasSuffix(".scope"), Systemd.isThere else { return nil }
        return (name, parts.dropLast().last { $0.hasSuffix(".slice") } ?? "-.slice")
    }

    /// Has systemd make it, with the process `pid` in it; `user` says that it is the user's own manager's.
    @Loop
    public func start(pid: Int32, user: Bool) async throws {
        guard let scope else { return }
        var systemd = try await Systemd(user: user)
        try await systemd.startScope(scope.name, slice: scope.slice, description: "A container of Hull's", pid: pid)
    }

    /// Tells systemd the limits that stand in the scope's files.
    @Loop
    public func tellSystemd(user: Bool) async throws {
        guard let scope, isThere else { return }
        var systemd = try await Systemd(user: user)
        try await systemd.adopt(
            scope.name, memory: number("memory", v1: "memory.limit_in_bytes", v2: "memory.max"), cpus: quota,
            processes: number("pids", v1: "pids.max", v2: "pids.max"), weight: number("cpu", v1: "-", v2: "cpu.weight"))
    }
}
