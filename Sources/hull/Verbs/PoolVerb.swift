import ArgumentParser
import Glibc
import Images
import LinuxSystem
import Sandboxes

/// Machines that wait for their containers.
struct PoolVerb: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pool",
        abstract: "Machines that wait for containers of an image.",
        discussion: """
            A machine of a pool has booted and has the image's disk; hull run gives it a command, and starts another to wait in its \
            place. It takes memory (some 40 MB under software emulation) all the time. A run uses it when the machine's flags are the \
            pool's (--memory, --cpus, --network, --kernel, …), nothing of the host is shared (-v, but --tmpfs), and no port is published.
            """,
        subcommands: [List.self, SetVerb.self, Remove.self])

    struct List: Verb {
        static let configuration = CommandConfiguration(commandName: "ls", abstract: "List pools.")
        @Flag(name: .shortAndLong, help: "Only keys.") var quiet = false
        @Option(name: .long, help: "json, or a template.") var format: String?

        func perform() async throws -> Int32 {
            let pools = PoolStore(try await openStore())
            let rows = try pools.list().map { pool in
                let ready = try pools.members(of: pool).count { PoolStore.isReady($0) }
                return [
                    "Key": pool.key, "Image": try ImageSource(pool.image, relativeTo: "/").familiar, "Wanted": "\(pool.count)",
                    "Ready": "\(ready)", "Network": pool.network.rawValue,
                    "Memory": pool.memory.map { ByteCount.format($0) } ?? "", "Cpus": pool.cpus.map { "\($0)" } ?? "",
                ]
            }
            try Table(
                columns: [
                    .init(key: "Key", title: "POOL"), .init(key: "Image", title: "IMAGE"), .init(key: "Wanted", title: "WANTED"),
                    .init(key: "Ready", title: "READY"), .init(key: "Network", title: "NETWORK"),
                    .init(key: "Memory", title: "MEMORY"),
                    .init(key: "Cpus", title: "CPUS"),
                ], rows: rows
            ).print(format: format, quiet: quiet, quietKey: "Key")
            return 0
        }
    }

    struct SetVerb: Verb {
        static let configuration = CommandConfiguration(
            commandName: "set", abstract: "Let so many machines wait for containers of an image.",
            discussion: "Ends when they are ready. The flags are those of hull run, as far as the machine depends on them.")
        @Option(name: .shortAndLong, help: "How many; 0 ends the pool.") var number: Int
        @OptionGroup var shape: ShapeOptions
        @Argument(help: "The image, as hull run is given it; it is pulled where it is missing.") var image: String

        func perform() async throws -> Int32 {
            let store = try await openStore()
            let pools = PoolStore(store)
            guard (0...1000).contains(number) else { throw SandboxError("\(number) machines cannot wait: give -n 0 to 1000") }
            let source = try ImageSource(image, relativeTo: Globals.absolute("."))
            let pool = try Pool(image: source.description, count: number, try shape.request())
            if number == 0 {
                try await pools.remove(pool)
                print(pool.key)
                return 0
            }
            try store.roots.prepare()
            _ = try await store.imageStore().resolve(source, pull: .missing, progress: PullDisplay(quiet: false).callback)
            let filling = PoolFilling(store: store)
            _ = try await filling.record(of: pool, id: ContainerStore.newIdentifier())
            try pools.set(pool)
            // Whoever else is at it may have begun before this pool was.
            while try !(await filling.run()) { try await sleep(for: .milliseconds(100)) }
            print(pool.key)
            Launch.makeWanted()
            return 0
        }
    }

    struct Remove: Verb {
        static let configuration = CommandConfiguration(
            commandName: "rm", abstract: "End pools; containers that came of them go on.")
        @Flag(name: .long, help: "All of them.") var all = false
        @Argument(help: "Keys, or images.") var pools: [String] = []

        func perform() async throws -> Int32 {
            let store = PoolStore(try await openStore())
            let known = try store.list()
            if all { for pool in known { try await store.remove(pool) } }
            return try await ForEach.container(pools) { wanted in
                // What is no image's name may be a key.
                let image = (try? ImageSource(wanted, relativeTo: Globals.absolute(".")))?.description
                let matches = known.filter { $0.key == wanted || $0.image == image }
                guard !matches.isEmpty else { throw SandboxError("No such pool: \(wanted)", exitCode: 1) }
                for pool in matches {
                    try await store.remove(pool)
                    print(pool.key)
                }
                return 0
            }
        }
    }
}

/// Fills pools in the background. Hull starts it itself.
struct PoolKeeper: Verb {
    static let configuration = CommandConfiguration(
        commandName: "pool-keeper", abstract: "Fills pools; started by run, start and pool set.", shouldDisplay: false)

    func perform() async throws -> Int32 {
        // Whoever is at it sees what is missing now.
        _ = try await PoolFilling(store: try await openStore()).run()
        return 0
    }
}
