import ArgumentParser

struct VersionVerb: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Show the version.")

    @Option(name: .long, help: "json.") var format: String?

    mutating func run() throws {
        if format == "json" {
            print("{\"Version\":\"\(Version.text)\"}")
        } else {
            print("hull version \(Version.text)")
        }
    }
}
