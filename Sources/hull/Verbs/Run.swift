import ArgumentParser
import Glibc
import LinuxSystem
import Sandboxes

struct Run: Verb {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run a command in a new container, in a machine of its own.",
        usage: "hull run [flags] IMAGE [COMMAND…]",
        discussion: """
            IMAGE is a reference (short names mean Docker Hub), or oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, or \
            rootfs:DIR for a plain root filesystem. Everything after IMAGE belongs to the command.
            """,
        helpNames: .long)

    @Flag(name: .shortAndLong, help: "Leave it running and print its id.") var detach = false
    @Option(name: .long, help: "Keys that leave the container running (default ctrl-p,ctrl-q).")
    var detachKeys: String?
    @OptionGroup var options: ContainerOptions
    @Argument(parsing: .captureForPassthrough, help: "The image, then the command and its arguments.")
    var image: [String]

    func perform() async throws -> Int32 {
        if image.first == "--help" { throw CleanExit.helpRequest(Self.self) }
        let store = try await openStore()
        let creation = Creation(options: options, arguments: image)
        let keys = try DetachKeys(detachKeys)
        let (container, claimed) = try await creation.make(in: store, mayClaim: true)
        let client: MonitorClient
        var monitor: ChildProcess?
        if let claimed { client = claimed } else { (client, monitor) = try await Launch.monitor(of: container) }
        if detach {
            do {
                try await client.ask(.start(Streams()))
                try await client.expectDone()
            } catch {
                try await creation.discard(container, in: store)
                throw error
            }
            print(container.id)
            Launch.makeWanted()
            return 0
        }
        let session = Session(
            client, monitor: monitor, terminal: container.record.process.terminal, input: container.record.process.input,
            detachKeys: keys)
        let later = Launch.makeWantedLater()
        defer {
            later.cancel()
            Launch.makeWanted()
        }
        do {
            return try await session.run { .start($0) }
        } catch let error as NeverStarted {
            try await creation.discard(container, in: store)
            throw error.cause
        }
    }
}
