import ArgumentParser
import Sandboxes
import Storage

struct Volume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "volume",
        abstract: "Named folders that outlive containers.",
        subcommands: [List.self, Make.self, Remove.self, Inspect.self])

    struct List: Verb {
        static let configuration = CommandConfiguration(commandName: "ls", abstract: "List volumes.")
        @Flag(name: .shortAndLong, help: "Only names.") var quiet = false
        @Option(name: .long, help: "json, or a template.") var format: String?

        func perform() async throws -> Int32 {
            let rows = try Volumes(root: try await openStore().roots.volumes).list().map {
                ["Name": $0.name, "Driver": "local", "Mountpoint": $0.path, "CreatedAt": $0.created]
            }
            try Table(
                columns: [.init(key: "Driver", title: "DRIVER"), .init(key: "Name", title: "VOLUME NAME")],
                rows: rows
            )
            .print(format: format, quiet: quiet, quietKey: "Name")
            return 0
        }
    }

    struct Make: Verb {
        static let configuration = CommandConfiguration(
            commandName: "create", abstract: "Make a volume.")
        @Argument(help: "Its name.") var name: String?

        func perform() async throws -> Int32 {
            print(try Volumes(root: try await openStore().roots.volumes).make(name).name)
            return 0
        }
    }

    struct Remove: Verb {
        static let configuration = CommandConfiguration(
            commandName: "rm", abstract: "Remove volumes that no container uses.")
        @Argument(help: "Names.") var names: [String]

        func perform() async throws -> Int32 {
            let store = try await openStore()
            let all = try Volumes(root: store.roots.volumes)
            return try await ForEach.printed(names) { try all.remove($0, users: store.users(ofVolume:)) }
        }
    }

    struct Inspect: Verb {
        static let configuration = CommandConfiguration(
            commandName: "inspect", abstract: "Show a volume as JSON.")
        @Argument(help: "Its name.") var name: String

        func perform() async throws -> Int32 {
            let volume = try Volumes(root: try await openStore().roots.volumes).find(name)
            try Table(
                columns: [],
                rows: [
                    [
                        "Name": volume.name, "Driver": "local", "Mountpoint": volume.path,
                        "CreatedAt": volume.created,
                    ]
                ]
            ).print(format: "json")
            return 0
        }
    }
}
