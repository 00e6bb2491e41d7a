import ArgumentParser
import FoundationEssentials
import Glibc
import LinuxSystem
import Sandboxes

/// Saved containers.
struct SnapshotVerb: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshot",
        abstract: "Containers saved while they run: memory, devices and disks.",
        discussion: "A snapshot holds all that was in the container's memory, secrets included: only root can read it.",
        subcommands: [Make.self, List.self, Show.self, Remove.self, Export.self, Import.self])

    struct Make: Verb {
        static let configuration = CommandConfiguration(
            commandName: "create", abstract: "Save a running container, and let it go on.")
        @Flag(name: .long, help: "End it where it was saved.") var stop = false
        @Option(name: .long, help: "Save only what is different from this snapshot, which is needed as long as the new one is.")
        var parent: String?
        @Flag(
            name: .long,
            help:
                "Save only what is different from its newest snapshot, or from the one that it was restored from; all, where there is none."
        )
        var diff = false
        @Argument(help: "The container's name or id.") var container: String
        @Argument(help: "The snapshot's name; the container's and the time otherwise.") var name: String?

        func perform() async throws -> Int32 {
            let store = try await openStore()
            let original = try store.find(container)
            try original.checkOwner("save")
            let snapshots = store.roots.snapshots
            let name = name ?? "\(original.name)-\(Timestamp.now.nanoseconds / 1_000_000)"
            try snapshots.checkFree(name)
            let parent = try parent.map { try snapshots.find($0) } ?? (diff ? try snapshots.parent(for: original.record) : nil)
            let making = try snapshots.begin()
            do {
                let saving = try await Saving(original, to: making, ends: stop, parent: parent, hull: Version.text)
                var manifest = saving.manifest
                manifest.name = name
                manifest = try snapshots.seal(making, manifest, durable: true)
                try snapshots.publish(making, manifest, as: name)
                try await saving.end()
            } catch {
                try making.discard()
                throw error
            }
            print(name)
            return 0
        }
    }

    struct List: Verb {
        static let configuration = CommandConfiguration(commandName: "ls", abstract: "List snapshots.")
        @Flag(name: .shortAndLong, help: "Only names.") var quiet = false
        @Option(name: .long, help: "json, or a template.") var format: String?

        func perform() async throws -> Int32 {
            let store = try await openStore().roots.snapshots
            let rows: [[String: String]] = try store.names().map { name in
                do {
                    let one = try store.find(name)
                    return [
                        "Name": name, "Container": one.manifest.container.name,
                        "Image": one.manifest.container.root.displayName,
                        "Created": Ago.text(one.manifest.created),
                        "CreatedAt": Timestamp(nanoseconds: one.manifest.created).rfc3339,
                        "Size": ByteCount.format(one.size), "Bytes": "\(one.size)", "Machine": one.manifest.saved.title,
                        "Parent": one.manifest.parent?.name ?? "",
                    ]
                } catch {
                    return ["Name": name, "Container": "\(error)"]
                }
            }
            try Table(
                columns: [
                    .init(key: "Name", title: "SNAPSHOT"), .init(key: "Container", title: "CONTAINER"),
                    .init(key: "Image", title: "IMAGE"), .init(key: "Created", title: "CREATED"),
                    .init(key: "Size", title: "SIZE"), .init(key: "Parent", title: "PARENT"),
                ], rows: rows
            ).print(format: format, quiet: quiet, quietKey: "Name")
            return 0
        }
    }

    struct Show: Verb {
        static let configuration = CommandConfiguration(
            commandName: "inspect", abstract: "Show all that is known of snapshots, as JSON.")
        @Argument(help: "Names.") var names: [String]

        private struct Shown: Encodable {
            var Name: String
            var Created: String
            var Folder: String
            /// Of its own: without its parent's, and without what others have too.
            var Size: UInt64
            var Parent: String?
            var Hull: String
            var Hypervisor: String
            var Machine: String
            var Memory: UInt64
            var StoodStillMilliseconds: Double
            var Files: [String: SnapshotManifest.File]
            var Container: ContainerRecord
        }

        func perform() async throws -> Int32 {
            let store = try await openStore().roots.snapshots
            let shown = try names.map { name in
                let one = try store.find(name)
                let manifest = one.manifest
                return Shown(
                    Name: name, Created: Timestamp(nanoseconds: manifest.created).rfc3339, Folder: one.folder, Size: one.size,
                    Parent: manifest.parent?.name, Hull: manifest.hull, Hypervisor: manifest.saved.hypervisor,
                    Machine: manifest.saved.title,
                    Memory: manifest.saved.memory, StoodStillMilliseconds: Double(manifest.saved.still) / 1e6,
                    Files: manifest.files, Container: manifest.container)
            }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            print(String(decoding: try encoder.encode(shown), as: UTF8.self))
            return 0
        }
    }

    struct Remove: Verb {
        static let configuration = CommandConfiguration(
            commandName: "rm", abstract: "Remove snapshots; containers made of them go on.")
        @Argument(help: "Names.") var names: [String]

        func perform() async throws -> Int32 {
            let store = try await openStore().roots.snapshots
            return try await ForEach.printed(names) { try store.remove($0) }
        }
    }

    struct Export: Verb {
        static let configuration = CommandConfiguration(
            commandName: "export",
            abstract: "Write a snapshot as one file, with checksums.",
            discussion: """
                The file holds all that was in the container's memory, secrets included. It is not compressed. One that has a parent is made \
                whole first, which takes room beside the others for a while.
                """)
        @Option(name: .shortAndLong, help: "The file; standard output otherwise.") var output: String?
        @Argument(help: "The snapshot's name.") var name: String

        func perform() async throws -> Int32 {
            let store = try await openStore().roots.snapshots
            let found = try store.find(name)
            if output == nil, isatty(1) == 1 { throw SandboxError("a snapshot is not for a terminal: name a file with --output") }
            if found.manifest.parent == nil {
                try write(found)
                return 0
            }
            let making = try store.begin()
            do {
                let whole: SnapshotStore.Snapshot
                do { whole = try store.makeWhole(found, in: making) } catch let error as SystemError where error.code == ENOSPC {
                    throw SandboxError(
                        "no room to put snapshot \(name) together with its parents: free some on the filesystem of \(store.path)")
                }
                try write(whole)
            } catch {
                try making.discard()
                throw error
            }
            try making.discard()
            return 0
        }

        private func write(_ found: SnapshotStore.Snapshot) throws {
            guard let output else { return try SnapshotArchive.write(found, to: SharedDescriptor(owning: dup(1))) }
            // Aside, so that there is never half of one.
            let beside = "\(output).new-\(getpid())"
            do {
                let file = SharedDescriptor(try openFile(beside, O_WRONLY | O_CREAT | O_EXCL))
                try SnapshotArchive.write(found, to: file)
                try checked("sync", output) { fsync(file.raw) }
                try checked("rename", output) { rename(beside, output) }
            } catch {
                unlink(beside)
                throw error
            }
        }
    }

    struct Import: Verb {
        static let configuration = CommandConfiguration(
            commandName: "import",
            abstract: "Read a snapshot that was exported, and check all of it.",
            discussion: """
                The checksums say that it is what was exported, not who did that: what is in it runs in a machine of its own like any image.
                """)
        @Flag(name: .long, help: "Let it have what it asks of this host: folders, volumes, published ports.") var trust = false
        @Argument(help: "The file; - for standard input.") var file: String
        @Argument(help: "The snapshot's name here.") var name: String

        func perform() async throws -> Int32 {
            let store = try await openStore().roots.snapshots
            try store.checkFree(name)
            let input = SharedDescriptor(try file == "-" ? OwnedDescriptor(owning: dup(0)) : openFile(file, O_RDONLY))
            let making = try store.begin()
            do {
                var manifest = try SnapshotArchive.read(from: input, to: making, as: name, isTrusted: trust)
                manifest = try store.seal(making, manifest, durable: true)
                try store.publish(making, manifest, as: name)
            } catch {
                try making.discard()
                throw error
            }
            print(name)
            return 0
        }
    }
}
