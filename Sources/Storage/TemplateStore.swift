import CLinux
import FoundationEssentials
import Glibc
public import LinuxSystem

/// Booted machines, kept for cloning: a folder each, `KEY/`, with the guest's memory, the devices' state and a manifest. A folder appears
/// by a rename and goes by one, so that there is never half of a template; what a killed maker left is collected by the next.
///
/// They hold the memory of a machine and so its secrets: everything here is root's alone.
public struct TemplateStore: Sendable {
    /// `<root>/cache/templates`.
    public let path: String

    public init(_ path: String) { self.path = path }

    /// What is known of a template besides its big files.
    public struct Manifest: Codable, Sendable {
        /// The version of this format.
        public static let version = 1
        public var version = Manifest.version
        /// What is shown to people: the machine in a few words.
        public var title: String
        /// All that it depends on, one word each: see `Templating.shape`.
        public var shape: [String]
        /// Nanoseconds since 1970.
        public var created: Int64
        /// The driver's own notes.
        public var facts: [String: String]
        /// As the files were when it was made. Nobody writes to them afterwards.
        public var memory: FileIdentity
        public var state: FileIdentity
        /// The disks that it used, by name, as they were when it was saved: a clone gets a copy.
        public var disks: [String: FileIdentity]
    }

    /// A template that is whole.
    public struct Template: Sendable {
        public var key: String
        public var manifest: Manifest
        public var memory: String
        public var state: String
        /// A disk that the saved machine used.
        public func disk(_ name: String) -> String { "\(memory.dropLast("memory".count))disk-\(name)" }
        /// Bytes that it takes on the disk.
        public var size: UInt64
        /// Seconds since 1970.
        public var lastUsed: Int
    }

    /// What was found under a key.
    public enum Finding: Sendable {
        case ready(Template)
        case missing
        /// It cannot be used; the words say why.
        case damaged(String)
    }

    // MARK: finding

    /// Looks a template up and checks it: by what its files are known by, without reading them.
    public func find(_ key: String) -> Finding {
        let folder = "\(path)/\(key)"
        let manifest: Manifest
        do {
            manifest = try JSONDecoder().decode(
                Manifest.self, from: Data(try readFile("\(folder)/manifest.json", limit: 1 << 20)))
        } catch let error as SystemError where error.code == ENOENT && !exists(folder) {
            return .missing
        } catch {
            return .damaged("its manifest cannot be read: \(error)")
        }
        guard manifest.version == Manifest.version else { return .damaged("its manifest is of version \(manifest.version)") }
        var used = stat()
        do {
            let disks = manifest.disks.map { ("disk-\($0.key)", $0.value) }
            for (name, wanted) in [("memory", manifest.memory), ("state", manifest.state)] + disks
            where try FileIdentity("\(folder)/\(name)") != wanted {
                return .damaged("its file \(name) was changed after it was made")
            }
            try checked("look at", folder) { stat("\(folder)/manifest.json", &used) }
        } catch {
            return .damaged("\(error)")
        }
        return .ready(
            Template(
                key: key, manifest: manifest, memory: "\(folder)/memory", state: "\(folder)/state",
                size: (["memory", "state"] + manifest.disks.keys.map { "disk-\($0)" }).reduce(0) {
                    $0 + Self.blocks("\(folder)/\($1)")
                }, lastUsed: Int(used.st_mtim.tv_sec)))
    }

    /// Notes that a template was used, for the eviction of those that are not.
    public func touch(_ template: Template) {
        // One that went meanwhile needs no note.
        utimes("\(path)/\(template.key)/manifest.json", nil)
    }

    /// The keys of all that is there, whole or damaged, sorted.
    public func keys() throws -> [String] {
        guard exists(path) else { return [] }
        return try listDirectory(path).filter(Self.isKey)
    }

    private static func isKey(_ name: String) -> Bool {
        name.utf8.count == 32 && name.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }

    private static func blocks(_ path: String) -> UInt64 {
        var status = stat()
        return stat(path, &status) == 0 ? UInt64(status.st_blocks) * 512 : 0
    }

    // MARK: wishes

    /// Notes that a template of this key would have been of use, with what is needed to make it.
    public func want(_ key: String, _ recipe: [UInt8]) throws {
        try prepare("wanted")
        try replaceFile("\(path)/wanted/\(key)", recipe)
    }

    /// What is wanted: keys and recipes.
    public func wanted() throws -> [(key: String, recipe: [UInt8])] {
        guard exists("\(path)/wanted") else { return [] }
        return try listDirectory("\(path)/wanted").filter(Self.isKey).compactMap { key in
            // Whoever makes it takes the wish away.
            (try? readFile("\(path)/wanted/\(key)", limit: 1 << 20)).map { (key, $0) }
        }
    }

    /// Takes a wish away: it was fulfilled, or cannot be.
    public func forget(_ key: String) { unlink("\(path)/wanted/\(key)") }

    /// Notes why a template of this key cannot be made; it is not wanted again for ten minutes.
    public func refuse(_ key: String, _ reason: String) throws {
        try prepare("refused")
        try replaceFile("\(path)/refused/\(key)", Array(reason.utf8))
        forget(key)
    }

    /// Whether it could not be made a short while ago.
    public func isRefused(_ key: String) -> Bool {
        var status = stat()
        return stat("\(path)/refused/\(key)", &status) == 0 && time(nil) - status.st_mtim.tv_sec < 600
    }

    /// Why it could not be made, if so.
    public func reasonOfRefusal(_ key: String) -> String? {
        // Nobody refused it, no file.
        try? readText("\(path)/refused/\(key)")
    }

    // MARK: making

    /// The right to make templates, and a folder for the one being made. One process at a time has it.
    public struct Making: Sendable {
        public let folder: String
        let lock: FileLock
    }

    /// Begins to make one, and collects what killed makers left, as `collectLeftovers` does; nil while somebody else is at it.
    public func begin(_ reclaim: (_ folder: String) async throws -> Void) async throws -> Making? {
        try prepare()
        guard let lock = try FileLock.attempt("\(path)/.lock") else { return nil }
        try await collect(reclaim)
        let folder = "\(path)/.making"
        try checked("make the folder", folder) { mkdir(folder, 0o700) }
        return Making(folder: folder, lock: lock)
    }

    /// Takes back what was begun, if it was not published.
    public func end(_ making: Making) throws { try removeTree(making.folder) }

    /// Gives what was made its place, over a damaged one if need be. All files must be written and closed; they are synced here.
    public func publish(
        _ making: Making, as key: String, title: String, shape: [String], created: Int64, facts: [String: String], disks: [String]
    ) throws {
        for name in ["memory", "state"] + disks.map({ "disk-\($0)" }) {
            let file = try openFile("\(making.folder)/\(name)", O_RDWR)
            try checked("set the mode of", name) { fchmod(file.raw, 0o600) }
            try checked("write to the disk", name) { fsync(file.raw) }
        }
        var identities: [String: FileIdentity] = [:]
        for name in disks { identities[name] = try FileIdentity("\(making.folder)/disk-\(name)") }
        let manifest = Manifest(
            title: title, shape: shape, created: created, facts: facts, memory: try FileIdentity("\(making.folder)/memory"),
            state: try FileIdentity("\(making.folder)/state"), disks: identities)
        try replaceFile("\(making.folder)/manifest.json", Array(try JSONEncoder().encode(manifest)), durable: true)
        try remove(key)
        try checked("rename", "\(path)/\(key)") { rename(making.folder, "\(path)/\(key)") }
        unlink("\(path)/refused/\(key)")
        forget(key)
    }

    // MARK: removing

    /// Removes a template: first out of sight, then file by file. Machines that were made of it keep what they mapped. Missing is no error.
    public func remove(_ key: String) throws {
        let aside = "\(path)/.removing-\(key)-\(UInt32.random(in: 0 ... .max))"
        if rename("\(path)/\(key)", aside) != 0 {
            if errno == ENOENT { return }
            throw SystemError("remove the template", key)
        }
        try removeTree(aside)
    }

    /// Removes the least recently used until all together take at most `limit` bytes; `kept` stays.
    public func evict(limit: UInt64, keeping kept: String) throws {
        var sizes: [(key: String, size: UInt64, used: Int)] = []
        for key in try keys() {
            switch find(key) {
            case .ready(let template): sizes.append((key, template.size, template.lastUsed))
            case .damaged: try remove(key)
            case .missing: break
            }
        }
        var total = sizes.reduce(0) { $0 + $1.size }
        for one in sizes.sorted(by: { $0.used < $1.used }) where total > limit && one.key != kept {
            try remove(one.key)
            total -= one.size
        }
    }

    /// Removes what killed makers and removers left; nothing while somebody makes one. `reclaim` takes away first what the maker in whose folder it
    /// is left elsewhere; where it throws, the folder stays.
    public func collectLeftovers(_ reclaim: (_ folder: String) async throws -> Void) async throws {
        guard exists(path), try listDirectory(path).contains(where: Self.isLeftover),
            let lock = try FileLock.attempt("\(path)/.lock")
        else { return }
        try await collect(reclaim)
        withExtendedLifetime(lock) {}
    }

    private func collect(_ reclaim: (_ folder: String) async throws -> Void) async throws {
        for name in try listDirectory(path) where Self.isLeftover(name) {
            try await reclaim("\(path)/\(name)")
            try removeTree("\(path)/\(name)")
        }
    }

    /// Makes the store's folder, and one in it; not what is above, which somebody may be removing.
    private func prepare(_ name: String? = nil) throws {
        for folder in [path] + (name.map { ["\(path)/\($0)"] } ?? []) where mkdir(folder, 0o700) != 0 && errno != EEXIST {
            throw SystemError("make the folder", folder)
        }
    }

    private static func isLeftover(_ name: String) -> Bool { name == ".making" || name.hasPrefix(".removing-") }
}
