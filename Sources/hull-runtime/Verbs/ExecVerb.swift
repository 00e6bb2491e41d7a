import FoundationEssentials
import Glibc
import LinuxSystem
import OCISpec
import Sandboxes

/// `exec`: another process in a container, with a holder of its own.
enum ExecVerb {
    /// Does all of it, and ends this process. Call it before there is a loop.
    static func main(_ words: [String], _ globals: Globals) -> Never {
        do {
            let arguments = try parse(words)
            let id = try arguments.id("exec")
            switch try ExecHolder.fork() {
            case .holder(let report): ExecHolder.main(report, id: id, arguments, globals)
            case .verb(let holder, let report): exit(try follow(holder, report, arguments))
            }
        } catch { HullRuntime.fail(error, globals) }
    }

    private static func parse(_ words: [String]) throws -> Arguments {
        try Arguments(
            words,
            valued: [
                "process", "console-socket", "pid-file", "cwd", "env", "user", "additional-gids", "cap", "preserve-fds", "cgroup",
                "process-label", "apparmor",
            ], plain: ["detach", "tty", "no-new-privs", "ignore-paused"],
            short: ["p": "process", "d": "detach", "t": "tty", "e": "env", "u": "user", "g": "additional-gids", "c": "cap"])
    }

    /// The verb's side: waits until the process runs, and without `--detach` until it has ended.
    private static func follow(_ holder: Int32, _ report: ExecHolder.Report, _ arguments: Arguments) throws -> Int32 {
        try report.read()
        if let file = arguments["pid-file"] { try replaceFile(file, Array("\(holder)".utf8), mode: 0o644) }
        if arguments.has("detach") { return 0 }
        return try Loop.run { () async -> Result<Int32, any Error> in
            do {
                let process = try ChildProcess(forked: holder)
                let signals = try Signals(EngineMonitor.passed)
                let passing = Task { @Loop in while true { process.signal(try await signals.next()) } }
                defer { passing.cancel() }
                return .success(try await process.wait().shellCode)
            } catch { return .failure(error) }
        }.get()
    }

    /// The container, which runs.
    static func container(_ id: String, _ globals: Globals) throws -> Container {
        let container = try globals.engines.require(id)
        switch container.engineStatus {
        case .stopped, .creating: throw SandboxError("cannot exec in a stopped container", exitCode: 255)
        case .paused: throw SandboxError("cannot exec in a paused container (use --ignore-paused to override)", exitCode: 255)
        case .created, .running: return container
        }
    }

    /// What is to be run.
    static func settings(_ arguments: Arguments, _ container: Container) throws -> ProcessSpec {
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
}
