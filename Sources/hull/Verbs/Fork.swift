import ArgumentParser
import LinuxSystem
import Sandboxes

struct Fork: Verb {
    static let configuration = CommandConfiguration(
        commandName: "fork",
        abstract: "Make live copies of a running container, which goes on.",
        discussion: """
            Each copy goes on where the container was, with a disk, an address, a host name and random numbers of its own. Its TCP \
            connections to others are reset; what is mounted from the host is the same for all.
            """)

    @Option(name: [.customShort("n"), .long], help: "How many.") var count = 1
    @Option(name: .long, help: "The copy's name; several get numbers behind it.") var name: String?
    @Argument(help: "A name or id.") var container: String

    func perform() async throws -> Int32 {
        guard (1...1000).contains(count) else { throw ValidationError("from 1 to 1000 copies can be made at once") }
        let store = try await openStore()
        let original = try store.find(container)
        try original.checkOwner("fork")
        let making = try store.roots.snapshots.begin()
        let running: [Container]
        do {
            let saved = try await Saving(original, to: making, ends: false, hull: Version.text).manifest
            let sealed = try store.roots.snapshots.seal(making, saved, durable: false)
            running = try await Restoring.start(
                Restoration(store, .init(sealed: sealed, in: making)), count: count,
                names: { number in name.map { count == 1 ? $0 : "\($0)\(number + 1)" } }, isFork: true, origin: original.name,
                in: store)
        } catch {
            try making.discard()
            throw error
        }
        // They have mapped and copied what they need of it.
        try making.discard()
        for container in running { print(container.id) }
        return 0
    }
}
