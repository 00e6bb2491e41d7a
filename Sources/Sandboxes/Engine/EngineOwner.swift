public import LinuxSystem
public import OCISpec

/// The engine's view of a container: what names it there, and what `state` says without asking anybody.
public struct EngineOwner: Codable, Hashable, Sendable {
    /// The engine's `--root`: ids are unique within it only.
    public var root: String
    public var id: String
    /// The bundle's folder, absolute.
    public var bundle: String
    public var ociVersion: String
    public var annotations: [String: String]
    /// The root filesystem's folder, absolute.
    public var rootfs: String
    /// Hull's id of the container whose sandbox this one joined, and of those whose pid and IPC namespaces it has.
    public var sandbox: String?
    public var pidOf: String?
    public var ipcOf: String?

    public init(root: String, id: String, bundle: String, ociVersion: String, annotations: [String: String], rootfs: String) {
        self.root = root
        self.id = id
        self.bundle = bundle
        self.ociVersion = ociVersion
        self.annotations = annotations
        self.rootfs = rootfs
    }

    /// Hull's own id for the container `id` of the engine whose root is `root`.
    public static func key(root: String, id: String) -> String {
        SHA256.digest(Array("\(root)\0\(id)".utf8)).hex
    }
}

/// What `hull-runtime` asks a monitor.
public enum EngineRequest: Codable, Sendable {
    /// The first request, from the verb that made the monitor: boots the machine, while the verb runs the host's hooks, and makes the container;
    /// its streams come with it.
    /// `done` says that it stands ready.
    case create(Streams)
    /// The second request, of a container that has hooks on the host: they are done.
    case hooked
    /// In the place of `create`: goes on with the container where it was saved, in that folder. `done` says that it runs.
    case restore(folder: String, Streams)
    /// As `Request.Verb.save`.
    case save(folder: String, ends: Bool)
    /// Makes the container of that Hull id in this sandbox too; its streams come with the message. The connection is its holder's: it is
    /// answered with `done`, and with the end.
    case join(String, Streams, holder: ProcessIdentity)
    /// Lets the container's command run.
    case start
    /// Another process, for which the host process `holder` stands; its streams come with the message.
    case exec(ProcessSpec, Streams, holder: Int32)
    /// Sends a signal to the first process, or to all.
    case kill(Int32, all: Bool)
    case pause
    case resume
    case update(ResourceLimits)
    /// What it used: `document`, as runc's `events --stats` has it.
    case statistics
    /// The host processes that stand for processes of the container: `document`, a JSON array.
    case holders
    /// The guest's processes: `processes`.
    case processes
}

extension ContainerPaths {
    /// The bundle's config.json, as it was at create.
    public var bundle: String { "\(folder)/bundle.json" }
}
