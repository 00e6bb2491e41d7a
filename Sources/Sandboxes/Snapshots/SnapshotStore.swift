import CLinux
import FoundationEssentials
import Glibc
public import LinuxSystem
import Storage

/// Saved containers: a folder each, `NAME/`, with the guest's memory, the devices' state, the disks, the log and a manifest. A folder
/// appears by a rename and goes by one, so that there is never half of a snapshot; what a killed verb left is collected by the next.
///
/// They hold a machine's memory and so its secrets: everything here is root's alone.
public struct SnapshotStore: Sendable {
    /// `<root>/snapshots`.
    public let path: String

    public init(_ path: String) { self.path = path }

    /// A snapshot that was found.
    public struct Snapshot: Sendable {
        public var manifest: SnapshotManifest
        public var folder: String
        public var name: String { manifest.name }
        /// The folders that it is made of: a whole one's, those of the differences since, and last its own.
        public var folders: [String]
        /// Bytes that it takes on the disk, without what others have too.
        public var size: UInt64

        /// A whole one that was sealed where it is made, and that nobody has counted.
        public init(sealed manifest: SnapshotManifest, in making: Making) {
            self.init(manifest: manifest, folder: making.folder, folders: [making.folder], size: 0)
        }

        init(manifest: SnapshotManifest, folder: String, folders: [String], size: UInt64) {
            self.manifest = manifest
            self.folder = folder
            self.folders = folders
            self.size = size
        }
    }

    // MARK: finding

    /// The names of all, sorted.
    public func names() throws -> [String] {
        guard exists(path) else { return [] }
        return try listDirectory(path).filter(Volumes.isName)
    }

    /// The snapshot of this name, checked by what its files are known by, without reading them. Throws where there is none, or where it is
    /// no longer what was saved.
    public func find(_ name: String) throws -> Snapshot {
        guard Volumes.isName(name), exists("\(path)/\(name)") else {
            throw SandboxError("No such snapshot: \(name)", exitCode: 1)
        }
        return try Self.open("\(path)/\(name)", name)
    }

    /// The snapshot in a folder, with those that it needs.
    public static func open(_ folder: String, _ name: String, depth: Int = 1) throws -> Snapshot {
        let manifest: SnapshotManifest
        do {
            // The version first: what else there is may be of another kind then.
            let bytes = Data(try readFile("\(folder)/manifest.json", limit: 16 << 20))
            let version = try JSONDecoder().decode(Versioned.self, from: bytes)
            guard SnapshotManifest.version...SnapshotManifest.versionWithParent ~= version.version else {
                throw SandboxError(
                    "snapshot \(name) was made by Hull \(version.hull) in format \(version.version), and this Hull knows those to \(SnapshotManifest.versionWithParent): restore it with that one"
                )
            }
            manifest = try JSONDecoder().decode(SnapshotManifest.self, from: bytes)
            guard (manifest.version == SnapshotManifest.version) == (manifest.parent == nil) else {
                throw SandboxError("the manifest of snapshot \(name) cannot be read: remove the snapshot")
            }
            try manifest.checkContainer()
        } catch let error as SandboxError {
            throw error
        } catch {
            throw SandboxError("the manifest of snapshot \(name) cannot be read: remove the snapshot", cause: error)
        }
        var size: UInt64 = 0
        for file in manifest.files.keys {
            guard Self.isFileName(file), try manifest.holds(file, at: "\(folder)/\(file)") else {
                throw SandboxError("the file \(file) of snapshot \(name) was changed after it was made: remove the snapshot")
            }
            var status = stat()
            if stat("\(folder)/\(file)", &status) == 0, status.st_nlink == 1 { size += UInt64(status.st_blocks) * 512 }
        }
        for needed in manifest.needed where manifest.files[needed] == nil {
            throw SandboxError("snapshot \(name) has no file \(needed): remove the snapshot")
        }
        let folders = try manifest.parent.map { try parent($0, of: name, in: folder, depth: depth).folders } ?? []
        return Snapshot(manifest: manifest, folder: folder, folders: folders + [folder], size: size)
    }

    private struct Versioned: Decodable {
        var version: Int
        var hull: String
    }

    /// The names that files of a snapshot may have.
    static func isFileName(_ name: String) -> Bool {
        if ["memory", "memory.changes", "state", "container.log", "container.log.1"].contains(name) { return true }
        guard name.hasPrefix("disk-") else { return false }
        let rest = name.dropFirst(5).dropLast(name.hasSuffix(".changes") ? 8 : 0).utf8
        return (1...20).contains(rest.count)
            && rest.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2d || $0 == 0x5f
            }
    }

    // MARK: making

    /// A snapshot that is being made, in a folder of its own that goes with this, unless it was published.
    public final class Making: Sendable {
        public let folder: String
        private let lock: FileLock

        fileprivate init(_ folder: String, _ lock: FileLock) {
            self.folder = folder
            self.lock = lock
        }

        /// Takes it back.
        public func discard() throws { try removeTree(folder) }
    }

    /// Begins one.
    public func begin() throws -> Making {
        try makeDirectories(path)
        let all = try FileLock.acquire("\(path)/.lock")
        defer { withExtendedLifetime(all) {} }
        let folder = "\(path)/.making-\(UInt64.random(in: 0 ... .max))"
        try checked("make the folder", folder) { mkdir(folder, 0o700) }
        return Making(folder, try FileLock.acquire("\(folder)/lock"))
    }

    /// Completes the manifest with what the files are, and writes it. With `durable` everything is on the disk afterwards.
    public func seal(_ making: Making, _ manifest: SnapshotManifest, durable: Bool) throws -> SnapshotManifest {
        var manifest = manifest
        for name in try listDirectory(making.folder) where Self.isFileName(name) {
            let file = SharedDescriptor(try openFile("\(making.folder)/\(name)", O_RDONLY))
            if durable { try checked("write to the disk", name) { fsync(file.raw) } }
            let identity = try FileIdentity(file, name)
            var known = manifest.files[name] ?? SnapshotManifest.File(identity: identity)
            known.identity = identity
            known.isLink = manifest.saved.machine.disks.contains { $0.readOnly && "disk-\($0.name)" == name }
            manifest.files[name] = known
        }
        try replaceFile("\(making.folder)/manifest.json", Array(try JSONEncoder().encode(manifest)), durable: durable)
        return manifest
    }

    /// Gives what was sealed its place. Throws when the name is taken, or when its parent is not there any more.
    public func publish(_ making: Making, _ manifest: SnapshotManifest, as name: String) throws {
        let all = try FileLock.acquire("\(path)/.lock")
        defer { withExtendedLifetime(all) {} }
        try checkFree(name)
        if let parent = manifest.parent { _ = try Self.parent(parent, of: name, in: making.folder, depth: 1) }
        unlink("\(making.folder)/lock")
        Fault.point("snapshot:rename")
        try checked("rename", "\(path)/\(name)") { rename(making.folder, "\(path)/\(name)") }
        let folder = try openFile(path, O_RDONLY | O_DIRECTORY)
        try checked("write to the disk", path) { fsync(folder.raw) }
    }

    /// Throws when a snapshot cannot be called `name`.
    public func checkFree(_ name: String) throws {
        guard Volumes.isName(name) else {
            throw SandboxError(
                "\"\(name)\" cannot name a snapshot: use two or more letters, digits, '_', '.' and '-', the first no sign")
        }
        if exists("\(path)/\(name)") {
            throw SandboxError("the name \"\(name)\" is in use by another snapshot: remove that one, or choose another name")
        }
    }

    // MARK: removing

    /// Removes one: first out of sight, then file by file. Machines that were made of it keep what they mapped; one that others have only the
    /// differences from stays.
    public func remove(_ name: String) throws {
        guard Volumes.isName(name), exists("\(path)/\(name)") else {
            throw SandboxError("No such snapshot: \(name)", exitCode: 1)
        }
        let aside = "\(path)/.removing-\(name)-\(UInt32.random(in: 0 ... .max))"
        do {
            // Nobody becomes its child meanwhile.
            let all = try FileLock.acquire("\(path)/.lock")
            defer { withExtendedLifetime(all) {} }
            let children = try children(of: name)
            guard children.isEmpty else {
                throw SandboxError(
                    "snapshot \(name) is the parent of \(children.joined(separator: ", ")): remove \(children.count == 1 ? "that" : "those") first",
                    exitCode: 1)
            }
            if rename("\(path)/\(name)", aside) != 0 {
                if errno == ENOENT { throw SandboxError("No such snapshot: \(name)", exitCode: 1) }
                throw SystemError("remove the snapshot", name)
            }
        }
        Fault.point("snapshot:removed")
        try removeTree(aside)
    }

    /// Removes what killed makers and removers left.
    public func collectLeftovers() throws {
        guard exists(path) else { return }
        let left = try listDirectory(path).filter { $0.hasPrefix(".making-") || $0.hasPrefix(".removing-") }
        if left.isEmpty { return }
        let all = try FileLock.acquire("\(path)/.lock")
        defer { withExtendedLifetime(all) {} }
        for name in left where !FileLock.isHeld("\(path)/\(name)/lock") { try removeTree("\(path)/\(name)") }
    }
}
