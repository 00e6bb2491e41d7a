import FoundationEssentials
import Glibc
import LinuxSystem
import OCISpec
import Sandboxes

/// `exec`: another process in a container, with a holder of its own.
enum ExecVerb {
    @Loop static func perform(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let arguments = try Arguments(
            words,
            valued: [
                "process", "console-socket", "pid-file", "cwd", "env", "user", "additional-gids", "cap", "preserve-fds", "cgroup",
                "process-label", "apparmor",
            ], plain: ["detach", "tty", "no-new-privs", "ignore-paused"],
            short: ["p": "process", "d": "detach", "t": "tty", "e": "env", "u": "user", "g": "additional-gids", "c": "cap"])
        let container = try globals.engines.require(try arguments.id("exec"))
        switch container.engineStatus {
        case .stopped, .creating: throw SandboxError("cannot exec in a stopped container", exitCode: 255)
        case .paused: throw SandboxError("cannot exec in a paused container (use --ignore-paused to override)", exitCode: 255)
        case .created, .running: break
        }
        let process = try settings(arguments, container)
        do {
            return try await run(process, in: container, arguments)
        } catch let error as any HullError {
            throw SandboxError("exec failed: unable to start container process: \(error)", exitCode: 255)
        }
    }

    private static func settings(_ arguments: Arguments, _ container: Container) throws -> ProcessSpec {
        if let file = arguments["process"] { return try ProcessSpec(parsing: try readFile(file)) }
        guard arguments.words.count > 1 else { throw SandboxError("process args cannot be empty", exitCode: 1) }
        let spec = try RuntimeSpec(parsing: try readFile(container.paths.bundle))
        var process = spec.process ?? ProcessSpec(args: [])
        process.args = Array(arguments.words.dropFirst())
        process.terminal = arguments.has("tty")
        if let directory = arguments["cwd"] { process.cwd = directory }
        process.env = (process.env ?? []) + (arguments.values["env"] ?? [])
        if arguments.has("no-new-privs") { process.noNewPrivileges = true }
        for name in arguments.values["cap"] ?? [] {
            var sets = process.capabilities ?? ProcessSpec.CapabilityNames()
            sets.bounding = (sets.bounding ?? []) + [name]
            sets.effective = (sets.effective ?? []) + [name]
            sets.permitted = (sets.permitted ?? []) + [name]
            process.capabilities = sets
        }
        if let user = arguments["user"] {
            let parts = user.split(separator: ":").map { UInt32($0) }
            guard let uid = parts.first ?? nil else { throw SandboxError("parsing user \(user) as a number", exitCode: 1) }
            process.user = ProcessSpec.User(uid: uid, gid: parts.count > 1 ? parts[1] ?? 0 : 0)
        }
        return process
    }

    @Loop private static func run(_ process: ProcessSpec, in container: Container, _ arguments: Arguments) async throws -> Int32 {
        var console: Console?
        let size = process.consoleSize
        if process.terminal == true {
            guard let socket = arguments["console-socket"] else {
                throw SandboxError("cannot allocate tty if runc will detach without setting console socket", exitCode: 1)
            }
            console = try await Console.open(for: socket, rows: size?.height, columns: size?.width)
        }
        let streams =
            try console.map { try HandedStreams.terminal($0, rows: size?.height, columns: size?.width) } ?? HandedStreams.own()
        let (channel, holder) = try Launch.holder(of: container, streams: streams.descriptors, console: console)
        try await channel.send(
            HolderOrder(process: process, streams: streams.streams), descriptors: streams.descriptors.map(\.raw))
        withExtendedLifetime((streams, console)) {}
        guard let (reply, _) = try await channel.receive(Reply.self) else {
            throw SandboxError("the process that was to hold the exec ended at once", exitCode: 1)
        }
        if case .failed(let sentence, _) = reply {
            _ = try await holder.wait()
            throw SandboxError(sentence, exitCode: 1)
        }
        if let file = arguments["pid-file"] { try replaceFile(file, Array("\(holder.pid)".utf8), mode: 0o644) }
        if arguments.has("detach") { return 0 }
        let signals = try Signals(EngineMonitor.passed)
        let passing = Task { @Loop in while true { holder.signal(try await signals.next()) } }
        defer { passing.cancel() }
        switch try await holder.wait() {
        case .code(let code): return code
        case .signal(let signal): return 128 + signal
        }
    }
}

/// What a holder is told by the verb that started it; the streams come beside it.
struct HolderOrder: Codable, Sendable {
    var process: ProcessSpec
    var streams: Streams
}
