import ArgumentParser
import Sandboxes

struct Start: Verb {
    static let configuration = CommandConfiguration(
        commandName: "start",
        abstract: "Start containers that were created or have ended.")

    @Flag(name: .shortAndLong, help: "Attach to its output, and end with its exit code.") var attach =
        false
    @Flag(name: .shortAndLong, help: "Attach to its standard input too.") var interactive = false
    @Option(name: .long, help: "Keys that leave the container running (default ctrl-p,ctrl-q).")
    var detachKeys: String?
    @Argument(help: "Names or ids.") var containers: [String]

    func perform() async throws -> Int32 {
        let store = try await openStore()
        let joined = attach || interactive
        guard !joined || containers.count == 1 else {
            throw ValidationError("only one container can be attached to at a time")
        }
        let later = joined ? Launch.makeWantedLater() : nil
        defer {
            later?.cancel()
            Launch.makeWanted()
        }
        return try await ForEach.container(containers) { reference in
            let container = try store.find(reference)
            try container.checkOwner("start")
            if container.state.isLive {
                if joined {
                    throw SandboxError(
                        "container \(container.name) is running already: use hull attach", exitCode: 1)
                }
                print(reference)
                return 0
            }
            let (client, monitor) = try await Launch.monitor(of: container)
            if joined {
                let session = Session(
                    client, monitor: monitor, terminal: container.record.process.terminal,
                    input: interactive && container.record.process.input,
                    detachKeys: try DetachKeys(detachKeys))
                do { return try await session.run { .start($0) } } catch let error as NeverStarted {
                    throw error.cause
                }
            }
            try await client.ask(.start(Streams()))
            try await client.expectDone()
            print(reference)
            return 0
        }
    }
}
