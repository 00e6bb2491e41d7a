import ArgumentParser
import Sandboxes

struct ProcessOptions: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Keep standard input open.") var interactive = false
    @Flag(name: .shortAndLong, help: "Give the container a terminal.") var tty = false
    @Option(
        name: [.customShort("e", allowingJoined: true), .long],
        help: ArgumentHelp("An environment variable; without a value, this environment's.", valueName: "name[=value]"))
    var env: [String] = []
    @Option(name: .long, help: "Read environment variables from a file.") var envFile: [String] = []
    @Option(name: [.customShort("w", allowingJoined: true), .customLong("workdir")], help: "Working directory in the container.")
    var workdir: String?
    @Option(
        name: [.customShort("u", allowingJoined: true), .long],
        help: ArgumentHelp("User, and group, by name or number.", valueName: "user[:group]"))
    var user: String?
    @Option(name: .long, help: "A further group.") var groupAdd: [String] = []
    @Option(name: .long, help: "Run this instead of the image's entrypoint.") var entrypoint: String?
    @Flag(name: .customLong("init"), help: "Run a small init that reaps processes and passes signals on.")
    var initWrapper = false
    @Option(name: .long, help: "Signal that asks the container to end.") var stopSignal: String?
    @Option(name: .long, help: "Seconds that stop waits before it kills.") var stopTimeout = 10

    func apply(to request: inout RunRequest) throws {
        request.input = interactive
        request.terminal = tty
        request.environment = try OptionText.environment(files: envFile, entries: env)
        request.directory = workdir
        request.user = user
        request.groups = groupAdd
        request.entrypoint = entrypoint
        request.initWrapper = initWrapper
        request.stopSignal = stopSignal
        request.stopTimeout = stopTimeout
    }
}
