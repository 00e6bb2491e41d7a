import CLinux
import Glibc
public import LinuxSystem
public import OCISpec

/// The containers of container engines in Hull's store, by the engine's root and id.
public struct EngineStore: Sendable {
    public let store: ContainerStore
    /// The engine's `--root`, absolute.
    public let root: String
    /// The driver of new containers whose annotations name none.
    let hypervisor: String

    public init(_ store: ContainerStore, root: String, hypervisor: String) {
        self.store = store
        self.root = root
        self.hypervisor = hypervisor
    }

    /// The container `id`; nil when there is none.
    public func find(_ id: String) throws -> Container? { try store.load(EngineOwner.key(root: root, id: id)) }

    /// The container `id`, or runc's sentence.
    public func require(_ id: String) throws -> Container {
        guard let container = try find(id) else { throw SandboxError("container does not exist", exitCode: 1) }
        return container
    }

    /// All of this root.
    public func list() throws -> [Container] { try store.list().filter { $0.record.engine?.root == root } }

    /// The sandbox whose network namespace is at `path`, and the containers whose pid and IPC namespaces the plan names; nil when the
    /// namespace is none of Hull's.
    public func sandbox(for plan: BundlePlan) throws -> (owner: Container, pidOf: String?, ipcOf: String?)? {
        guard case .path(let path) = plan.network, let network = Self.inode(path) else { return nil }
        let live = try store.list().filter { $0.record.engine != nil && $0.state.monitor?.isAlive == true }
        func holder(_ kind: String, _ inode: UInt64) -> Container? {
            live.first {
                Self.inode("/proc/\($0.state.monitor?.pid ?? 0)/ns/\(kind)") == inode && $0.record.engine?.sandbox == nil
            }
        }
        guard let owner = holder("net", network) else { return nil }
        func joined(_ type: String, _ kind: String) throws -> String? {
            guard let path = plan.namespace(type)?.path, !path.isEmpty else { return nil }
            let inode = Self.inode(path)
            let found = live.first { one in inode != nil && Self.inode("/proc/\(one.state.monitor?.pid ?? 0)/ns/\(kind)") == inode
            }
            guard let found else {
                throw SandboxError("the \(type) namespace \(path) belongs to no container of this sandbox", exitCode: 1)
            }
            return found.id
        }
        return (owner, try joined("pid", "pid"), try joined("ipc", "ipc"))
    }

    private static func inode(_ path: String) -> UInt64? {
        var status = stat()
        return stat(path, &status) == 0 ? UInt64(status.st_ino) : nil
    }

    /// Adds a container, its config.json beside its record.
    public func add(_ plan: BundlePlan, id: String, configuration: [UInt8], now: Int64) async throws -> Container {
        let joined = try sandbox(for: plan)
        if joined == nil { try plan.checkStandsAlone() }
        guard try find(id) == nil else { throw SandboxError("container with given ID already exists", exitCode: 1) }
        let key = EngineOwner.key(root: root, id: id)
        // Two engines may use the same id; names are Hull's and are unique.
        let isTaken = try store.list().contains { $0.name == id }
        var record = plan.record(
            root: root, id: id, name: isTaken ? "\(id)-\(key.prefix(8))" : id, hypervisor: hypervisor, now: now)
        // More virtual processors than the host has would only wait for each other; the quota stays what it is.
        record.resources.cpus = record.resources.cpus.map { min($0, EngineSize.hostProcessors) }
        record.engine?.sandbox = joined?.owner.id
        record.engine?.pidOf = joined?.pidOf
        record.engine?.ipcOf = joined?.ipcOf
        return try await store.add(record) { folder in
            try replaceFile("\(folder)/bundle.json", configuration)
        }
    }

    /// Ends what is left of it, and removes it with all that stands in its ledger.
    @Loop
    public func remove(_ container: Container) async throws {
        if container.engineStatus != .stopped {
            do {
                let client = try MonitorClient(to: container)
                try await client.ask(.engine(.kill(SIGKILL, all: false)))
                try await withDeadline(.seconds(15), awaiting: "the end of the container") { try await client.expectDone() }
            } catch {
                // It does not listen (yet, or any more): the monitor is ended itself, and the kernel ends what it owns.
                container.state.monitor?.signal(SIGKILL)
            }
            let lock = container.paths.lock
            do {
                try await withDeadline(.seconds(8), awaiting: "the end of the monitor") {
                    while FileLock.isHeld(lock) { try await sleep(for: .milliseconds(2)) }
                }
            } catch {
                container.state.monitor?.signal(SIGKILL)
                try await withDeadline(.seconds(10), awaiting: "the end of the monitor") {
                    while FileLock.isHeld(lock) { try await sleep(for: .milliseconds(5)) }
                }
            }
        }
        try store.remove(container.id)
        try await Reaper.undo(container.paths, store.drivers)
    }
}

extension Container {
    /// runtime.md's word for where an engine's container is in its life.
    public enum EngineStatus: String, Sendable { case creating, created, running, paused, stopped }

    public var engineStatus: EngineStatus {
        switch state.status {
        case .created: return .creating
        case .starting(let running): return running.monitor.isAlive ? .created : .stopped
        case .running(let running): return !running.monitor.isAlive ? .stopped : running.paused == true ? .paused : .running
        case .exited: return .stopped
        }
    }

    /// Throws where the container is an engine's, who would be wrong about it from then on.
    public func checkOwner(_ operation: String) throws {
        guard let engine = record.engine else { return }
        throw SandboxError(
            "container \(name) belongs to a container engine (its root is \(engine.root)): \(operation) it there, e.g. with docker or podman",
            exitCode: 1)
    }

    /// The holder's pid; 0 once it is stopped.
    public var holder: Int32 { engineStatus == .stopped ? 0 : state.monitor?.pid ?? 0 }

    /// What `state` says, and hooks get.
    public func runtimeState(_ status: EngineStatus? = nil, pid: Int32? = nil) -> RuntimeState {
        let owner = record.engine
        return RuntimeState(
            ociVersion: owner?.ociVersion ?? "1.0.2", id: owner?.id ?? id, status: (status ?? engineStatus).rawValue,
            pid: pid ?? holder, bundle: owner?.bundle ?? "", annotations: owner?.annotations)
    }
}
