public import HostNetwork
public import Kernels
import LinuxSystem
public import Storage

/// Where Hull keeps things: `data` outlives a reboot (images, containers, volumes, logs), `runtime` does not (sockets,
/// locks, ledgers). Both belong to root and are closed to everybody else.
public struct Roots: Codable, Hashable, Sendable {
    /// Default `/var/lib/hull`; `--root` or `HULL_ROOT`.
    public var data: String
    /// Default `/run/hull`; `--exec-root` or `HULL_EXEC_ROOT`.
    public var runtime: String

    public init(data: String = "/var/lib/hull", runtime: String = "/run/hull") {
        self.data = data
        self.runtime = runtime
    }

    /// Those of a plain user, whose engine runs Hull as root of a namespace of hers: `~/.local/share/hull` and `hull` in her runtime
    /// folder. Engines give their runtime no `HOME` at most calls, so it is the one of the host's list of users.
    public init(user: UInt32, runtime: String?) {
        let folder = runtime ?? "/run/user/\(user)"
        // Unreadable, or without her (a directory service's): then it is all in the runtime folder.
        let users = (try? readText("/etc/passwd")) ?? ""
        let home = users.split(separator: "\n").lazy.map { $0.split(separator: ":", omittingEmptySubsequences: false) }
            .first { $0.count > 5 && $0[2] == "\(user)" }?[5]
        self.init(data: home.map { "\($0)/.local/share/hull" } ?? "\(folder)/hull/data", runtime: "\(folder)/hull")
    }

    /// Where records of containers are.
    public var containers: String { "\(data)/containers" }
    /// The image store.
    public var images: String { "\(data)/images" }
    /// Named and anonymous volumes.
    public var volumes: String { "\(data)/volumes" }
    /// Kernels, initramfs and templates of disks: what can be made again.
    public var cache: String { "\(data)/cache" }
    /// Kernels of Hull's own making.
    public var kernels: KernelLibrary { KernelLibrary("\(data)/kernels") }
    /// Images of the domains that device models run in.
    public var stubdomains: StubdomainLibrary { StubdomainLibrary("\(data)/stubdomains") }
    /// Booted machines, kept for cloning.
    public var templates: TemplateStore { TemplateStore("\(cache)/templates") }
    /// Those of them that are awake.
    public var awake: AwakeTemplates { AwakeTemplates("\(runtime)/awake") }
    /// Saved containers.
    public var snapshots: SnapshotStore { SnapshotStore("\(data)/snapshots") }
    /// Everything that a container keeps between its runs.
    public func container(_ id: String) -> ContainerPaths { ContainerPaths(roots: self, id: id) }
    /// Where id ranges are taken: one file each.
    public var identifiers: String { "\(runtime)/ids" }
    /// Held while a name is taken or a container is made or removed.
    public var storeLock: String { "\(data)/lock" }
    /// The host's side of the default network.
    public var network: HostNetwork {
        HostNetwork(
            HostNetwork.Configuration(
                stateDirectory: "\(runtime)/network", choiceFile: "\(data)/network.json"))
    }

    /// Makes the folders.
    public func prepare() throws {
        for folder in [data, containers, cache, runtime] { try makeDirectories(folder) }
    }
}

/// The files of one container.
public struct ContainerPaths: Hashable, Sendable {
    let roots: Roots
    public let id: String

    /// The folder that outlives a run.
    public var folder: String { "\(roots.containers)/\(id)" }
    /// What the user asked for, resolved: `ContainerRecord`.
    public var record: String { "\(folder)/container.json" }
    /// What became of it: `ContainerState`.
    public var state: String { "\(folder)/state.json" }
    /// The writable disk.
    public var disk: String { "\(folder)/disk.img" }
    /// A disk of its own that is none of the host's: of a container that was restored.
    func disk(_ name: String) -> String { name == "rw" ? disk : "\(folder)/disk-\(name)" }
    /// There as long as it is being restored, and locked by who does that.
    var restoring: String { "\(folder)/restoring" }
    /// The container's output (Kubernetes' CRI format).
    public var log: String { "\(folder)/container.log" }
    /// What the guest's kernel said.
    public var console: String { "\(folder)/console.log" }
    /// What the monitor and the VMM said.
    public var monitorLog: String { "\(folder)/monitor.log" }

    /// The folder of the running sandbox.
    public var runtime: String { "\(roots.runtime)/\(id)" }
    /// Held by the monitor as long as it lives.
    public var lock: String { "\(runtime)/lock" }
    /// Where verbs reach the monitor.
    public var socket: String { "\(runtime)/monitor.sock" }
    /// What the sandbox holds on the host.
    public var ledger: String { "\(runtime)/ledger" }
}
