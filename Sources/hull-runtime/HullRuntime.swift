import Glibc
import LinuxSystem
import Sandboxes

/// `hull-runtime`: the program for container engines, with runc's command line. A verb is a file in `Verbs`.
@main
enum HullRuntime {
    static func main() {
        signal(SIGPIPE, SIG_IGN)
        let words = Array(CommandLine.arguments.dropFirst())
        // Those that Hull starts itself.
        if words.first == "monitor" || words.first == "member" { MonitorVerb.main(words) }
        if words == ["exhaust"] { exhaust() }
        if words == ["template-builder"] { TemplateVerbs.build() }
        if words.count == 2, words[0] == "template-keeper" { TemplateVerbs.keep(words[1]) }
        let globals: Globals
        let rest: [String]
        do { (globals, rest) = try Globals.parse(words) } catch {
            StandardStreams.complain("\(error)")
            exit(1)
        }
        // Before there is a loop: it makes a copy of this process.
        if rest.first == "exec", rest.dropFirst().first.map({ $0 != "--help" && $0 != "-h" }) ?? true {
            ExecVerb.main(Array(rest.dropFirst()), globals)
        }
        let result: Result<Int32, any Error> = Loop.run {
            do { return .success(try await perform(rest, globals)) } catch { return .failure(error) }
        }
        fflush(nil)
        switch result {
        case .success(let code): exit(code)
        case .failure(let error): fail(error, globals)
        }
    }

    /// Says what failed, and ends.
    static func fail(_ error: any Error, _ globals: Globals) -> Never {
        globals.log(error: "\(error)")
        exit((error as? any HullError).map { $0.exitCode == 0 ? 1 : $0.exitCode } ?? 1)
    }

    /// Uses memory until the cgroup's limit ends it, so that an engine sees what happened in the guest.
    private static func exhaust() -> Never {
        for _ in 0..<4096 {
            // MAP_POPULATE: touched by the kernel, whatever an optimiser thinks of memory that nobody reads.
            let piece = mmap(nil, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | 0x8000, -1, 0)
            if piece == MAP_FAILED { break }
        }
        exit(1)
    }

    @Loop static func perform(_ words: [String], _ globals: Globals) async throws -> Int32 {
        guard let name = words.first else {
            print(Usage.text)
            return 0
        }
        let rest = words.dropFirst()
        if rest.contains("--help") || rest.first == "-h", name != "help" {
            print(Usage.text(of: name))
            return 0
        }
        switch name {
        case "create": return try await CreateVerb.perform(rest, globals, isRun: false)
        case "run": return try await CreateVerb.perform(rest, globals, isRun: true)
        case "start": return try await LifeVerbs.start(rest, globals)
        case "state": return try LifeVerbs.state(rest, globals)
        case "kill": return try await LifeVerbs.kill(rest, globals)
        case "delete": return try await LifeVerbs.delete(rest, globals)
        case "pause": return try await LifeVerbs.pause(rest, globals)
        case "resume": return try await LifeVerbs.resume(rest, globals)
        case "list": return try ListVerb.perform(rest, globals)
        case "ps": return try await PsVerb.perform(rest, globals)
        case "update": return try await UpdateVerb.perform(rest, globals)
        case "events": return try await EventsVerb.perform(rest, globals)
        case "spec": return try SpecVerb.perform(rest)
        case "features":
            print(Features.document)
            return 0
        case "checkpoint": return try await CheckpointVerb.perform(rest, globals)
        case "restore": return try await RestoreVerb.perform(rest, globals)
        case "help":
            print(Usage.text)
            return 0
        default: throw SandboxError("No help topic for '\(name)'", exitCode: 3)
        }
    }
}

/// The flags before the verb.
struct Globals: Sendable {
    var root = "/run/hull-runtime"
    var logFile: String?
    var isJSON = false
    var systemdCgroup = false

    static func parse(_ words: [String]) throws -> (Globals, [String]) {
        let arguments = try Arguments(
            words, valued: ["root", "log", "log-format", "rootless", "criu"], plain: ["debug", "systemd-cgroup", "version"],
            short: ["v": "version"])
        var globals = Globals()
        if arguments.has("version") {
            print("hull-runtime version \(Version.text)\nspec: 1.0.2-dev")
            exit(0)
        }
        if arguments.has("help") {
            print(Usage.text)
            exit(0)
        }
        if let root = arguments["root"] { globals.root = absolute(root) }
        globals.logFile = arguments["log"]
        switch arguments["log-format"] ?? "text" {
        case "text": break
        case "json": globals.isJSON = true
        case let other: throw SandboxError("invalid log-format: \(other)", exitCode: 1)
        }
        globals.systemdCgroup = arguments.has("systemd-cgroup")
        return (globals, arguments.words)
    }

    /// Hull's own roots: engines give none, so the environment of the engine says where, if not in the usual places.
    var roots: Roots {
        var roots = Roots()
        if let owner = UserNamespace.owner { roots = Roots(user: owner, runtime: environment("XDG_RUNTIME_DIR")) }
        if let path = environment("HULL_ROOT") { roots.data = path }
        if let path = environment("HULL_EXEC_ROOT") { roots.runtime = path }
        return roots
    }

    var engines: EngineStore {
        // Domains are root's to make.
        EngineStore(
            ContainerStore(roots, drivers: Drivers.all), root: root,
            hypervisor: UserNamespace.isInitial ? Drivers.standard : "qemu")
    }

    /// Writes an error where the engine looks for it, and on standard error.
    func log(error: String) {
        let sentence = error.split(separator: "\n").joined(separator: "; ")
        let time = Timestamp.now.rfc3339
        let line =
            isJSON
            ? "{\"level\":\"error\",\"msg\":\(Self.quoted(sentence)),\"time\":\"\(time)\"}"
            : "time=\"\(time)\" level=error msg=\(Self.quoted(sentence))"
        if let logFile {
            do {
                try writeFile(logFile, Array("\(line)\n".utf8), flags: O_WRONLY | O_CREAT | O_APPEND, mode: 0o644)
            } catch { StandardStreams.complain("\(error)") }
            StandardStreams.complain(sentence)
        } else {
            StandardStreams.complain(line)
        }
    }

    static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\t": out += "\\t"
            default:
                if scalar.value < 32 {
                    let digits = String(scalar.value, radix: 16)
                    out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out + "\""
    }
}

func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
}

/// `path`, from the working directory if it is relative.
func absolute(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let here: String? = buffer.withUnsafeMutableBytes { raw in
        getcwd(raw.baseAddress!.assumingMemoryBound(to: CChar.self), raw.count).map { String(cString: $0) }
    }
    var rest = Substring(path)
    while rest.hasPrefix("./") { rest = rest.dropFirst(2) }
    if rest == "." || rest.isEmpty { return here ?? "/" }
    return "\(here == "/" ? "" : here ?? "")/\(rest)"
}

/// What `--help` says.
enum Usage {
    static let text = """
        NAME:
           hull-runtime - OCI runtime: every container in a virtual machine of its own

        USAGE:
           hull-runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] [--systemd-cgroup] [--rootless VALUE] command

        COMMANDS:
           create, start, run, state, kill, delete, exec, list, ps, pause, resume, update, events, spec, features
           checkpoint, restore
        """
    static func text(of verb: String) -> String {
        let flags: [String: String] = [
            "create": "[--bundle DIR] [--console-socket PATH] [--pid-file PATH] ID",
            "run": "[--bundle DIR] [--console-socket PATH] [--pid-file PATH] [--detach] [--keep] ID",
            "checkpoint": "[--image-path DIR] [--work-path DIR] [--leave-running] ID",
            "restore": "[--image-path DIR] [--bundle DIR] [--console-socket PATH] [--pid-file PATH] [--detach] ID",
            "start": "ID", "state": "ID", "pause": "ID", "resume": "ID", "kill": "[--all] ID [SIGNAL]", "delete": "[--force] ID",
            "exec":
                "[--process FILE] [--console-socket PATH] [--pid-file PATH] [--detach] [--tty] [--cwd DIR] [--env E] [--user U] ID COMMAND…",
            "list": "[--format table|json] [--quiet]", "ps": "[--format table|json] ID",
            "update": "[--resources FILE] [--memory BYTES] [--cpu-quota N] [--cpu-period N] [--cpu-share N] [--pids-limit N] ID",
            "events": "[--stats] [--interval DURATION] ID", "spec": "[--bundle DIR]",
        ]
        return "USAGE:\n   hull-runtime \(verb) \(flags[verb] ?? "")"
    }
}
