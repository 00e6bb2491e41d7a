import FoundationEssentials
import Glibc
public import LinuxSystem
import Machines
import Storage

/// Snapshots that have only what is different from another one, their parent.
extension SnapshotStore {
    /// How many may be in a row, the whole one with them: each is read when the last one is restored.
    public static let deepest = 16

    /// The parent of a snapshot in `folder`, which is beside it. Throws where it is not there, or is another.
    static func parent(_ parent: SnapshotManifest.Parent, of name: String, in folder: String, depth: Int) throws -> Snapshot {
        let store = folder.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        guard Volumes.isName(parent.name), depth < deepest else {
            throw SandboxError("snapshot \(name) has no parent that could be one: remove the snapshot")
        }
        guard exists("\(store)/\(parent.name)") else {
            throw SandboxError("the parent of snapshot \(name), \(parent.name), is not there any more: remove the snapshot")
        }
        let found = try open("\(store)/\(parent.name)", parent.name, depth: depth + 1)
        guard found.manifest.files == parent.files else {
            throw SandboxError("the parent of snapshot \(name), \(parent.name), is another than it was: remove the snapshot")
        }
        return found
    }

    /// The names of those that have only the differences from `name`.
    func children(of name: String) throws -> [String] {
        struct Line: Decodable {
            struct Parent: Decodable { var name: String }
            var parent: Parent?
        }
        return try names().filter { other in
            // One whose manifest cannot be read can neither be restored.
            guard let bytes = try? readFile("\(path)/\(other)/manifest.json", limit: 16 << 20) else { return false }
            // The same.
            return (try? JSONDecoder().decode(Line.self, from: Data(bytes)))?.parent?.name == name
        }
    }

    /// The newest snapshot of a container, or else the one that it was restored from, where it can be the parent of the next; nil otherwise.
    public func parent(for container: ContainerRecord) throws -> Snapshot? {
        let all = try names().compactMap { name in
            // What was damaged is nobody's parent; `ls` shows it.
            try? find(name)
        }.filter { $0.folders.count < Self.deepest && $0.manifest.container.engine == nil }
        let own = all.filter { $0.manifest.container.id == container.id }.max { $0.manifest.created < $1.manifest.created }
        return own ?? all.first { $0.name == container.origin }
    }

    /// Throws where a snapshot cannot be the parent of another one of `name`'s machine.
    static func check(_ parent: Snapshot, for machine: TemplateRecipe, of name: String) throws {
        let its = parent.manifest.saved.machine
        guard parent.folders.count < deepest else {
            throw SandboxError(
                "snapshot \(parent.name) has \(parent.folders.count - 1) parents itself: make one that is whole, without --parent",
                exitCode: 1)
        }
        let shape = { (machine: TemplateRecipe) in machine.disks.map { "\($0.name) \($0.readOnly) \($0.size)" } }
        guard its.hypervisor == machine.hypervisor, its.wholeMemory == machine.wholeMemory, its.growth == machine.growth,
            shape(its) == shape(machine), parent.manifest.fixed.isEmpty
        else {
            throw SandboxError(
                "snapshot \(parent.name) cannot be the parent of one of \(name): its machine has other memory or other disks",
                exitCode: 1)
        }
    }

    /// The same snapshot with all that it needs from others, in the folder of `making`. Takes as much room as a whole one.
    public func makeWhole(_ snapshot: Snapshot, in making: Making) throws -> Snapshot {
        var manifest = snapshot.manifest
        for name in manifest.files.keys where !name.hasSuffix(".changes") {
            let target = "\(making.folder)/\(name)"
            // A link to a file that is its own would change what it is known by.
            if manifest.files[name]?.isLink == true, link("\(snapshot.folder)/\(name)", target) == 0 { continue }
            try copySparse(from: "\(snapshot.folder)/\(name)", to: target)
        }
        for name in manifest.files.keys where name.hasSuffix(".changes") {
            let name = String(name.dropLast(8))
            try snapshot.copy(name, to: "\(making.folder)/\(name)")
        }
        manifest.files = [:]
        manifest.set(parent: nil)
        return Snapshot(sealed: try seal(making, manifest, durable: false), in: making)
    }
}

extension SnapshotStore.Snapshot {
    /// As a driver takes it.
    var machine: Machines.Snapshot {
        Machines.Snapshot(
            memory: "\(folders[0])/memory", changes: changes(of: "memory"), state: "\(folder)/state", facts: manifest.saved.facts)
    }

    /// Writes the file `name`, with all changes, to `target`, which is not there yet.
    func copy(_ name: String, to target: String) throws {
        let source = "\(folders[0])/\(name)"
        try copySparse(from: source, to: target)
        if folders.count == 1 { return }
        let file = SharedDescriptor(try openFile(target, O_RDWR))
        let size = try changesSize(of: name)
        try LayeredFile(base: source, changes: changes(of: name), size: size).bring(file, target)
    }

    /// Writes to `target`, which is not there yet, what is different in the file at `path` from this snapshot's file `name`.
    func saveChanges(of name: String, now path: String, to target: String) throws {
        let size = Int(try FileIdentity(path).size)
        let known = try LayeredFile(base: "\(folders[0])/\(name)", changes: changes(of: name), size: size)
        let now = try LayeredFile(base: path, size: size)
        var changes = FileChanges(
            making: SharedDescriptor(try openFile(target, O_RDWR | O_CREAT | O_EXCL)), size: size, target)
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: LayeredFile.piece, alignment: FileChanges.block)
        defer { scratch.deallocate() }
        try now.each(in: (now.ranges + known.ranges).joined) { (place, bytes) throws(SystemError) in
            try changes.record(bytes, at: place, over: known, scratch: scratch)
        }
    }

    /// The files with what is different from the whole snapshot's `name`, the oldest first.
    func changes(of name: String) -> [String] {
        folders.dropFirst().map { "\($0)/\(SnapshotManifest.file(name, isDifference: true))" }
    }

    /// The length that the file `name` may have: what may come later to a machine's memory is behind the rest.
    private func changesSize(of name: String) throws -> Int {
        let length = Int(try FileIdentity("\(folders[0])/\(name)").size)
        guard name == "memory", let growth = manifest.saved.machine.growth else { return length }
        return max(length, Int(manifest.saved.machine.wholeMemory + growth.memoryBytes) + 1 << 30)
    }
}
