import CLinux
import Foundation
import Glibc
import LinuxSystem
import Machines
import OCISpec
import Testing

@testable import Sandboxes

/// Snapshots as one stream: what comes out is what went in, and what nobody's Hull wrote does not come in.
@Suite struct SnapshotArchiveTests {
    /// A store in a folder that is gone afterwards, with a small snapshot that is being made.
    private func withSnapshot(_ body: (SnapshotStore, SnapshotStore.Snapshot, String) throws -> Void) throws {
        let folder = "/tmp/hull-archive-\(UInt32.random(in: 0 ... .max))"
        try makeDirectories(folder)
        defer { try? removeTree(folder) }  // a folder of the test's own
        let store = SnapshotStore("\(folder)/snapshots")
        let making = try store.begin()
        let memory = try openFile("\(making.folder)/memory", O_RDWR | O_CREAT)
        ftruncate(memory.raw, 3 << 20)
        _ = pwrite(memory.raw, [1, 2, 3], 3, 100_000)
        _ = pwrite(memory.raw, [4], 1, (3 << 20) - 1)
        try writeFile("\(making.folder)/state", Array("devices".utf8), flags: O_WRONLY | O_CREAT)
        try writeFile("\(making.folder)/disk-rw", [UInt8](repeating: 7, count: 70_000), flags: O_WRONLY | O_CREAT)
        var spec = MachineSpec(
            id: "x", memoryBytes: 3 << 20, kernel: "", initramfs: "", consoleLog: "", confinement: Confinement(uidBase: 0))
        spec.disks = [Disk(name: "rw", path: "\(making.folder)/disk-rw", readOnly: false)]
        let saved = SavedState(
            guestName: "guest", lastProcess: 2, machine: try TemplateRecipe(spec, hypervisor: "qemu"), facts: ["qemu": "10.0"])
        let record = ContainerRecord(
            id: String(repeating: "a", count: 64), name: "one", created: 1, root: .image(reference: "box", id: "i", file: "/f"),
            process: .init(arguments: ["true"]))
        let manifest = try store.seal(
            making, SnapshotManifest(name: "one", hull: "0", created: 1, container: record, saved: saved), durable: false)
        try store.publish(making, manifest, as: "one")
        try body(store, .init(manifest: manifest, folder: "\(store.path)/one", folders: ["\(store.path)/one"], size: 0), folder)
    }

    private func archive(_ snapshot: SnapshotStore.Snapshot, _ folder: String) throws -> [UInt8] {
        let path = "\(folder)/archive"
        let file = SharedDescriptor(try openFile(path, O_RDWR | O_CREAT | O_TRUNC))
        try SnapshotArchive.write(snapshot, to: file)
        return try readFile(path)
    }

    private func read(_ bytes: [UInt8], _ store: SnapshotStore, _ folder: String, trust: Bool = false) throws -> (
        SnapshotManifest, SnapshotStore.Making
    ) {
        try writeFile("\(folder)/in", bytes, flags: O_WRONLY | O_CREAT | O_TRUNC)
        let making = try store.begin()
        do {
            let manifest = try SnapshotArchive.read(
                from: SharedDescriptor(try openFile("\(folder)/in", O_RDONLY)), to: making, as: "two", isTrusted: trust)
            return (manifest, making)
        } catch {
            try making.discard()
            throw error
        }
    }

    @Test func whatGoesOutComesIn() throws {
        try withSnapshot { store, snapshot, folder in
            let bytes = try archive(snapshot, folder)
            #expect(bytes.count < 300_000, "holes travel")
            let (manifest, making) = try read(bytes, store, folder)
            #expect(manifest.name == "two" && manifest.container.id == snapshot.manifest.container.id)
            for name in ["memory", "state", "disk-rw"] {
                #expect(try readFile("\(making.folder)/\(name)") == readFile("\(snapshot.folder)/\(name)"))
                var status = stat()
                #expect(stat("\(making.folder)/\(name)", &status) == 0 && status.st_mode & 0o777 == 0o600)
            }
            try making.discard()
        }
    }

    /// Every byte of it counts, and so does its length.
    @Test func anyOtherByteIsRefused() throws {
        try withSnapshot { store, snapshot, folder in
            let bytes = try archive(snapshot, folder)
            var random = SystemRandomNumberGenerator()
            var places = Array(0..<200) + (0..<60).map { _ in Int.random(in: 0..<bytes.count, using: &random) }
            places += (bytes.count - 40)..<bytes.count
            for place in places {
                var bad = bytes
                bad[place] ^= UInt8.random(in: 1...255, using: &random)
                #expect(throws: (any Error).self, "byte \(place)") { _ = try read(bad, store, folder) }
            }
            for count in [0, 10, 100, bytes.count / 2, bytes.count - 1] {
                #expect(throws: (any Error).self) { _ = try read(Array(bytes.prefix(count)), store, folder) }
            }
            #expect(throws: (any Error).self) { _ = try read(bytes + [0], store, folder) }
            #expect(try listDirectory(store.path).filter { $0 != ".lock" } == ["one"])
        }
    }

    /// The same with a manifest that its maker changed, digest and all.
    @Test func whatNoHullWroteIsRefused() throws {
        try withSnapshot { store, snapshot, folder in
            let bytes = try archive(snapshot, folder)
            let lines = bytes.split(separator: 10, maxSplits: 2, omittingEmptySubsequences: false)
            let count = try #require(Int(String(decoding: lines[1].split(separator: 32)[1], as: UTF8.self)))
            let text = String(decoding: lines[2].prefix(count), as: UTF8.self)
            let rest = lines[2].dropFirst(count)
            func changed(_ from: String, _ to: String) -> [UInt8] {
                #expect(text.contains(from), "\(from) is not in \(text)")
                let other = Array(text.replacingOccurrences(of: from, with: to).utf8)
                return Array(SnapshotArchive.magic.utf8) + Array("\(SHA256.digest(other).hex) \(other.count)\n".utf8) + other
                    + rest
            }
            _ = try read(changed("\"name\":\"one\"", "\"name\":\"uno\""), store, folder).1.discard()
            for (from, to) in [
                ("disk-rw", "../../escaped"), ("disk-rw", "disk-"), ("disk-rw", "disk-/etc"), ("\"rw\"", "\"../rw\""),
                ("\"name\":\"one\"", "\"name\":\"\\u001b[2J\""), ("\"version\":1", "\"version\":2"),
                ("\"memoryBytes\":3145728", "\"memoryBytes\":18446744073709551615"),
                ("\"memoryBytes\":3145728", "\"memoryBytes\":4194304"),
                ("\"size\":70000", "\"size\":70001"), ("\"size\":70000", "\"size\":9223372036854775807"),
                ("\"lastProcess\":2", "\"lastProcess\":18446744073709551615"), ("\"vcpus\":1", "\"vcpus\":1000000"),
                (
                    "\"mounts\":[]",
                    "\"mounts\":[{\"source\":{\"bind\":{\"_0\":\"/\"}},\"destination\":\"/x\",\"readOnly\":false,\"copy\":false,\"options\":[]}]"
                ),
                (
                    "\"fixed\":{}",
                    "\"fixed\":{\"rw\":{\"identity\":{\"inode\":1,\"size\":1,\"modified\":1,\"changed\":1},\"isLink\":true}}"
                ),
            ] {
                #expect(throws: (any Error).self, "\(from) → \(to)") { _ = try read(changed(from, to), store, folder) }
            }
            #expect(!exists("\(folder)/escaped"))
            // Trust is for what it asks of the host, and for nothing else.
            let asks = changed(
                "\"mounts\":[]",
                "\"mounts\":[{\"source\":{\"bind\":{\"_0\":\"/\"}},\"destination\":\"/x\",\"readOnly\":false,\"copy\":false,\"options\":[]}]"
            )
            try read(asks, store, folder, trust: true).1.discard()
        }
    }
}
