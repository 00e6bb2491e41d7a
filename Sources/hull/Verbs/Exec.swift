import ArgumentParser
import LinuxSystem
import Sandboxes

struct Exec: Verb {
    static let configuration = CommandConfiguration(
        commandName: "exec",
        abstract: "Run another command in a running container.",
        usage: "hull exec [flags] CONTAINER COMMAND [ARG…]", helpNames: .long)

    @Flag(name: .shortAndLong, help: "Keep standard input open.") var interactive = false
    @Flag(name: .shortAndLong, help: "Give the command a terminal.") var tty = false
    @Flag(name: .shortAndLong, help: "Leave it running.") var detach = false
    @Flag(name: .long, help: "All capabilities (of the guest).") var privileged = false
    @Option(name: [.customShort("e", allowingJoined: true), .long], help: "An environment variable.")
    var env: [String] = []
    @Option(name: .long, help: "Read environment variables from a file.") var envFile: [String] = []
    @Option(
        name: [.customShort("w", allowingJoined: true), .customLong("workdir")],
        help: "Working directory in the container.") var workdir: String?
    @Option(
        name: [.customShort("u", allowingJoined: true), .long],
        help: "User, and group, by name or number.") var user: String?
    @Option(name: .long, help: "Keys that leave the command running (default ctrl-p,ctrl-q).")
    var detachKeys: String?
    @Argument(
        parsing: .captureForPassthrough, help: "The container, then the command and its arguments.")
    var container: [String]

    func perform() async throws -> Int32 {
        if container.first == "--help" { throw CleanExit.helpRequest(Self.self) }
        var words = container[...]
        if words.first == "--" { words = words.dropFirst() }
        guard let reference = words.popFirst() else { throw ValidationError("no container given") }
        guard !words.isEmpty else {
            throw ValidationError("no command given: hull exec CONTAINER COMMAND")
        }
        let found = try await openStore().find(reference)
        let client = try MonitorClient(to: found)
        var settings = found.record.process
        settings.arguments = Array(words)
        settings.environment += try OptionText.environment(files: envFile, entries: env)
        if tty { settings.environment.insert("TERM=xterm", at: 0) }
        if let workdir { settings.directory = workdir }
        if let user {
            settings.user = user
            settings.groups = []
        }
        settings.terminal = tty
        settings.input = interactive
        settings.initWrapper = false
        if privileged {
            settings.capabilities = Capabilities.names
            settings.seccomp = false
        }
        if detach {
            try await client.ask(.exec(settings, Streams(), detached: true))
            try await client.expectDone()
            return 0
        }
        let session = Session(
            client, terminal: tty, input: interactive, detachKeys: try DetachKeys(detachKeys))
        do {
            return try await session.run { [settings] in .exec(settings, $0, detached: false) }
        } catch let error as NeverStarted { throw error.cause }
    }
}
