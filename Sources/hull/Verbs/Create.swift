import ArgumentParser
import Sandboxes

struct Create: Verb {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Make a container without starting it.",
        usage: "hull create [flags] IMAGE [COMMAND…]", helpNames: .long)

    @OptionGroup var options: ContainerOptions
    @Argument(parsing: .captureForPassthrough, help: "The image, then the command and its arguments.")
    var image: [String]

    func perform() async throws -> Int32 {
        if image.first == "--help" { throw CleanExit.helpRequest(Self.self) }
        let (container, _) = try await Creation(options: options, arguments: image).make(
            in: try await openStore())
        print(container.id)
        return 0
    }
}
