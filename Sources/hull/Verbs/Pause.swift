import ArgumentParser
import LinuxSystem
import Sandboxes

struct Pause: Verb {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract: "Stand containers still, with their machines.",
        discussion: "Nothing in them runs until hull unpause; their memory, files and connections stay.")

    @Argument(help: "Names or ids.") var containers: [String]

    func perform() async throws -> Int32 { try await Self.ask(.pause(true), of: containers, in: openStore()) }

    /// Asks each monitor, and prints the name of each that did it.
    @Loop static func ask(_ verb: Request.Verb, of containers: [String], in store: ContainerStore) async throws -> Int32 {
        try await ForEach.container(containers) { reference in
            let client = try MonitorClient(to: try store.find(reference))
            try await client.ask(verb)
            try await client.expectDone()
            print(reference)
            return 0
        }
    }
}

struct Unpause: Verb {
    static let configuration = CommandConfiguration(commandName: "unpause", abstract: "Let containers go on that were paused.")

    @Argument(help: "Names or ids.") var containers: [String]

    func perform() async throws -> Int32 { try await Pause.ask(.pause(false), of: containers, in: openStore()) }
}
