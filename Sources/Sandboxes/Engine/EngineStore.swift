import Glibc
public import LinuxSystem
public import OCISpec

/// The containers of container engines in Hull's store, by the engine's root and id.
public struct EngineStore: Sendable {
    public let store: ContainerStore
    /// The engine's `--root`, absolute.
    public let root: String

    public init(_ store: ContainerStore, root: String) {
        self.store = store
        self.root = root
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

    /// Adds a container, its config.json beside its record.
    public func add(_ plan: BundlePlan, id: String, configuration: [UInt8], now: Int64) async throws -> Container {
        guard try find(id) == nil else { throw SandboxError("container with given ID already exists", exitCode: 1) }
        let key = EngineOwner.key(root: root, id: id)
        // Two engines may use the same id; names are Hull's and are unique.
        let isTaken = try store.list().contains { $0.name == id }
        let record = plan.record(root: root, id: id, name: isTaken ? "\(id)-\(key.prefix(8))" : id, now: now)
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
        try await Reaper.undo(container.paths)
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
