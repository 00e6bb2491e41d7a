import ArgumentParser
import Glibc
import LinuxSystem
import Sandboxes

/// `hull`: the program for people. A verb is a file in `Verbs`; what they share is beside this one.
@main
struct Hull: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hull",
        abstract: "Runs every container in a virtual machine of its own.",
        discussion: """
            Global flags, before the verb:
              --root DIR        images, containers and volumes (default /var/lib/hull; HULL_ROOT)
              --exec-root DIR   sockets and locks of what runs (default /run/hull; HULL_EXEC_ROOT)

            Exit codes: the container's command's own; 128+n when signal n ended it; 125 when Hull itself failed; 126 when the \
            command cannot be executed; 127 when it cannot be found.
            """,
        version: Version.text,
        groupedSubcommands: [
            CommandGroup(
                name: "Container",
                subcommands: [
                    Run.self, Create.self, Start.self, Ps.self, Exec.self, Logs.self, Attach.self, Stop.self,
                    Kill.self, Wait.self, Rm.self,
                    Inspect.self, Top.self, Pause.self, Unpause.self,
                ]),
            CommandGroup(name: "State", subcommands: [SnapshotVerb.self, Restore.self, Fork.self]),
            CommandGroup(
                name: "Image and volume",
                subcommands: [Pull.self, ImagesVerb.self, Rmi.self, Volume.self]),
            CommandGroup(
                name: "Host",
                subcommands: [
                    TemplateVerb.self, PoolVerb.self, ResidentVerb.self, KernelVerb.self, StubdomainVerb.self, Doctor.self,
                    Gc.self, Install.self,
                    Uninstall.self,
                    VersionVerb.self,
                ]),
            CommandGroup(
                name: "Internal",
                subcommands: [
                    Monitor.self, TemplateBuilderVerb.self, TemplateKeeperVerb.self, PoolKeeper.self, ResidentKeeper.self,
                ]),
        ])

    static func main() {
        // A reader that goes away is an error of write(2), not the end of us.
        signal(SIGPIPE, SIG_IGN)
        do {
            let words = Globals.take(Array(CommandLine.arguments.dropFirst()))
            if var verb = plain(words) { try verb.run() }
            try check(verb: words.first)
            var verb = try parseAsRoot(words)
            try verb.run()
        } catch {
            Complaint.exit(with: error)
        }
    }
}

extension Hull {
    /// What is asked for, where it is a verb with nothing but containers: there is nothing to parse.
    private static func plain(_ words: [String]) -> (any ContainersVerb)? {
        let verbs: [any ContainersVerb.Type] = [Pause.self, Unpause.self, Wait.self]
        guard words.count > 1, !words.contains(where: { $0.hasPrefix("-") }),
            let kind = verbs.first(where: { $0.configuration.commandName == words[0] })
        else { return nil }
        var verb = kind.init()
        verb.containers = Array(words.dropFirst())
        return verb
    }

    /// The parser would call an unknown verb an unexpected argument.
    private static func check(verb: String?) throws {
        guard let verb, !verb.hasPrefix("-"), verb != "help" else { return }
        let names = configuration.groupedSubcommands.flatMap(\.subcommands).map { command in
            command.configuration.commandName ?? "\(command)".lowercased()
        }
        if !names.contains(verb) { throw SandboxError("'\(verb)' is not a hull command: see hull --help") }
    }
}

/// The flags that stand before the verb, and what the environment says in their place.
enum Globals {
    nonisolated(unsafe) private static var data: String?
    nonisolated(unsafe) private static var runtime: String?

    /// Takes the global flags off the front of the arguments.
    static func take(_ arguments: [String]) -> [String] {
        var rest = arguments[...]
        while let first = rest.first {
            if first == "--root" || first == "--exec-root", rest.count > 1 {
                set(first, rest[rest.startIndex + 1])
                rest = rest.dropFirst(2)
            } else if first.hasPrefix("--root=") || first.hasPrefix("--exec-root=") {
                let pair = first.split(separator: "=", maxSplits: 1)
                set(String(pair[0]), pair.count == 2 ? String(pair[1]) : "")
                rest = rest.dropFirst()
            } else {
                break
            }
        }
        return Array(rest)
    }

    private static func set(_ flag: String, _ value: String) {
        if flag == "--root" { data = value } else { runtime = value }
    }

    static var roots: Roots {
        var roots = Roots()
        if let path = data ?? environment("HULL_ROOT") { roots.data = absolute(path) }
        if let path = runtime ?? environment("HULL_EXEC_ROOT") { roots.runtime = absolute(path) }
        return roots
    }

    static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// `path`, from the working directory if it is relative.
    static func absolute(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        guard getcwd(&buffer, buffer.count) != nil else { return path }
        let here = String(
            decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var rest = Substring(path)
        while rest.hasPrefix("./") { rest = rest.dropFirst(2) }
        if rest == "." || rest.isEmpty { return here }
        return here == "/" ? "/\(rest)" : "\(here)/\(rest)"
    }
}
