import ArgumentParser
import LinuxSystem
import Sandboxes

/// Machines that stay for their tenants' next containers.
struct ResidentVerb: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resident",
        abstract: "Machines that stay for the next container of their tenant.",
        discussion: """
            hull run --resident NAME leaves its machine standing still when the container has ended; the next run with that name and the \
            same machine (kernel, memory, processors, network or none) plugs its disks in and needs no boot. One container has it at a \
            time. What a container did to the guest's kernel is there for the next one: a name is for containers that trust each other.
            """,
        subcommands: [List.self, Remove.self])

    struct List: Verb {
        static let configuration = CommandConfiguration(commandName: "ls", abstract: "List resident machines.")
        @Flag(name: .shortAndLong, help: "Only names.") var quiet = false
        @Option(name: .long, help: "json, or a template.") var format: String?

        func perform() async throws -> Int32 {
            _ = try await openStore()
            let now = Timestamp.now.nanoseconds
            let rows = try ResidentStore(Globals.roots, drivers: Drivers.all).list().map { note in
                let status =
                    note.parked == nil
                    ? "has \(note.container.prefix(12))" : "waits \(max(0, (note.until - now) / 1_000_000_000)) s more"
                return [
                    "Name": note.name, "Status": status, "Hypervisor": note.hypervisor, "Machine": note.machine,
                    "Memory": ByteCount.format(note.shape.memory), "Cpus": "\(note.shape.processors)",
                ]
            }
            try Table(
                columns: [
                    .init(key: "Name", title: "RESIDENT"), .init(key: "Status", title: "STATUS"),
                    .init(key: "Memory", title: "MEMORY"), .init(key: "Cpus", title: "CPUS"),
                    .init(key: "Hypervisor", title: "HYPERVISOR"),
                ], rows: rows
            ).print(format: format, quiet: quiet, quietKey: "Name")
            return 0
        }
    }

    struct Remove: Verb {
        static let configuration = CommandConfiguration(commandName: "rm", abstract: "End resident machines that wait.")
        @Argument(help: "Names.") var names: [String]

        func perform() async throws -> Int32 {
            _ = try await openStore()
            let residents = ResidentStore(Globals.roots, drivers: Drivers.all)
            return try await ForEach.printed(names) { try await residents.end($0) }
        }
    }
}

/// Ends resident machines whose time is over. Hull starts it itself, and it ends with the last of them.
struct ResidentKeeper: Verb {
    static let configuration = CommandConfiguration(
        commandName: "resident-keeper", abstract: "Ends resident machines that waited long enough; started by run and start.",
        shouldDisplay: false)

    func perform() async throws -> Int32 {
        let residents = ResidentStore(Globals.roots, drivers: Drivers.all)
        // Somebody watches already, or the last of them is gone.
        while try residents.areThere(), let lock = try residents.attemptKeeping() {
            defer { withExtendedLifetime(lock) {} }
            let watch = try residents.watch()
            while let next = try await residents.collect({ StandardStreams.complain("hull-resident-keeper: \($0)") }) {
                // Not for ever: a monitor that is killed changes no file.
                let left = min(max(next - Timestamp.now.nanoseconds, 0), 60_000_000_000)
                try await watch.next(atMost: .nanoseconds(left))
            }
        }
        return 0
    }
}
