import ArgumentParser
import Sandboxes

struct Attach: Verb {
    static let configuration = CommandConfiguration(
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
            return try await session.run { .attach($0) }
        } catch let error as NeverStarted { throw error.cause }
    }
}
