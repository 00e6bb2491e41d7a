import FoundationEssentials
public import HostNetwork
public import LinuxSystem
import Machines

/// What a snapshot is besides its big files: all that is needed to go on with the container, and to refuse what does not fit.
public struct SnapshotManifest: Codable, Sendable {
    /// The version of this format, and of what the guest's agent expects of who goes on with it.
    public static let version = 1
    /// The same for one with a parent: a Hull that knows of none is not to take it for whole.
    static let versionWithParent = 2
    public var version = SnapshotManifest.version
    public var name: String
    /// The Hull that made it.
    public var hull: String
    /// Nanoseconds since 1970.
    public var created: Int64
    /// The container that was saved.
    public var container: ContainerRecord
    public var saved: SavedState
    /// Its files by name, as they were when it was made or imported. Nobody writes to them afterwards.
    public var files: [String: File] = [:]
    /// Disks that every machine of a kernel has, by name: an engine's checkpoint has their digests instead of them.
    var fixed: [String: File] = [:]
    /// The snapshot that it has only the differences from; nil for one that is whole.
    public private(set) var parent: Parent?

    /// Another snapshot in the same store, which this one needs.
    public struct Parent: Codable, Hashable, Sendable {
        public var name: String
        /// Its files, by which it is known: another one of that name has others.
        var files: [String: File]
    }

    /// Makes it one that has only the differences from another; or, with nil, one that is whole.
    mutating func set(parent: SnapshotStore.Snapshot?) {
        self.parent = parent.map { Parent(name: $0.name, files: $0.manifest.files) }
        version = parent == nil ? Self.version : Self.versionWithParent
    }

    /// Throws where the container's record is of a format that this Hull does not know: nothing may be made of it.
    func checkContainer() throws {
        guard container.version > ContainerRecord.version else { return }
        throw SandboxError(
            "snapshot \(name) holds a container in format \(container.version), and this Hull knows those to \(ContainerRecord.version): restore it with Hull \(hull)"
        )
    }

    /// The files that it must have, besides logs.
    var needed: [String] {
        let disks = saved.machine.disks.filter { fixed[$0.name] == nil }
        return [Self.file("memory", isDifference: parent != nil), "state"]
            + disks.map { Self.file("disk-\($0.name)", isDifference: parent != nil && !$0.readOnly) }
    }

    /// The name of a file, or of what is different from the parent's.
    static func file(_ name: String, isDifference: Bool) -> String { isDifference ? "\(name).changes" : name }

    /// A file of a snapshot.
    public struct File: Codable, Hashable, Sendable {
        public var identity: FileIdentity
        /// Whether others have it too, as links to the same file: those come and go, which changes its times.
        public var isLink = false
        /// SHA-256 of its content (`SparseDigest`), once that was needed.
        public var digest: String?
    }

    /// Whether the file at `path` still is what it was.
    func holds(_ name: String, at path: String) throws -> Bool {
        guard let known = files[name] else { return false }
        let now = try FileIdentity(path)
        return known.isLink ? now.text == known.identity.text : now == known.identity
    }
}

/// What a monitor notes when it saved its container.
public struct SavedState: Codable, Sendable {
    /// The agent's name for the container.
    var guestName: String
    /// The last number that a process got.
    var lastProcess: UInt64
    /// The machine.
    var machine: TemplateRecipe
    /// The driver's own notes.
    var facts: [String: String]
    /// Its network; nil without one.
    var endpoint: Endpoint?
    /// Its network in an engine's namespace; nil for a container of `hull run`.
    var network: SavedNetwork?
    /// Whether its processes stood still before.
    var isPaused = false
    /// How long the container stood still, nanoseconds.
    public var still: Int64 = 0

    init(guestName: String, lastProcess: UInt64, machine: TemplateRecipe, facts: [String: String]) {
        self.guestName = guestName
        self.lastProcess = lastProcess
        self.machine = machine
        self.facts = facts
    }

    /// With what the driver said.
    func with(_ facts: [String: String], _ still: Duration) -> SavedState {
        var state = self
        state.facts = facts
        state.still = still.nanoseconds
        return state
    }

    /// The hypervisor's driver, with the version that it noted: for people.
    public var hypervisor: String { facts[machine.hypervisor].map { "\(machine.hypervisor) \($0)" } ?? machine.hypervisor }
    /// The machine in a few words.
    public var title: String { machine.title }
    /// Bytes of the machine's memory.
    public var memory: UInt64 { machine.memoryBytes }

    /// As a monitor answers it.
    var text: String {
        get throws { String(decoding: try JSONEncoder().encode(self), as: UTF8.self) }
    }
}
