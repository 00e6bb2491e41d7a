import ArgumentParser
import LinuxSystem
import Sandboxes

struct Pause: ContainersVerb {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract: "Stand containers still, with their machines.",
        discussion: "Nothing in them runs until hull unpause; their memory, files and connections stay.")

    @Argument(help: "Names or ids.") var containers: [String]

    func perform() async throws -> Int32 { try await ForEach.ask(.pause(true), of: containers, in: openStore()) }
}

struct Unpause: ContainersVerb {
    static let configuration = CommandConfiguration(commandName: "unpause", abstract: "Let containers go on that were paused.")

    @Argument(help: "Names or ids.") var containers: [String]

    func perform() async throws -> Int32 { try await ForEach.ask(.pause(false), of: containers, in: openStore()) }
}
