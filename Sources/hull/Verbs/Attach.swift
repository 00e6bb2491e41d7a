import ArgumentParser
import Sandboxes

struct Attach: Verb {
    static let configuration = CommandConfiguration(
        commandName: "attach",
        abstract: "Join the streams of a running container.")

    @Flag(name: .long, help: "Leave standard input alone.") var noStdin = false
    @Option(name: .long, help: "Keys that leave the container running (default ctrl-p,ctrl-q).")
    var detachKeys: String?
    @Argument(help: "Name or id.") var container: String

    func perform() async throws -> Int32 {
        let found = try await openStore().find(container)
        let process = found.record.process
        let session = Session(
            try MonitorClient(to: found), terminal: process.terminal, input: process.input && !noStdin,
            detachKeys: try DetachKeys(detachKeys))
        do {
            return try await session.run { streams in
                // Who attaches is one of several, now or later: the end of its input is not the end of the container's.
                var streams = streams
                streams.ownsInput = false
                return .attach(streams)
            }
        } catch let error as NeverStarted { throw error.cause }
    }
}
