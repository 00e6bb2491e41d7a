import ArgumentParser
import LinuxSystem
import Sandboxes

struct Restore: Verb {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Go on with a container where it was saved, as a new one.",
        discussion: """
            It has its address again where nobody else has it, and then its open connections; a copy beside the original gets another, and \
            they are reset.
            """)

    @Option(name: .long, help: "Its name; one is made up otherwise.") var name: String?
    @Argument(help: "The snapshot's name.") var snapshot: String

    func perform() async throws -> Int32 {
        let store = try await openStore()
        let found = try store.roots.snapshots.find(snapshot)
        let running = try await Restoring.start(
            Restoration(store, found), count: 1, names: { _ in name }, isFork: false,
            origin: found.name,
            in: store)
        for container in running { print(container.id) }
        return 0
    }
}
