import Glibc
public import LinuxSystem
import Storage

/// Removes containers: stops them where it must, and takes what goes with them.
public struct Removal: Sendable {
    private let store: ContainerStore

    public init(_ store: ContainerStore) { self.store = store }

    /// Removes a container. One that runs is only removed by force: it is killed, with its monitor if that does not answer.
    @Loop
    public func remove(_ container: Container, force: Bool = false, volumes: Bool = false)
        async throws
    {
        if container.state.isLive {
            guard force else {
                throw SandboxError(
                    "container \(container.name) is running: stop it first, or use hull rm --force",
                    exitCode: 1)
            }
            try await end(container)
        }
        // Who has the lock may start it: nobody does so between our look at its state and its removal.
        let lock = try await heldLock(container)
        defer { withExtendedLifetime(lock) {} }
        // Its monitor may have removed it, as --rm asked.
        if let now = try store.load(container.id) {
            guard !now.state.isLive else {
                throw SandboxError("container \(container.name) was started meanwhile: stop it first", exitCode: 1)
            }
            try removeStopped(now, volumes: volumes || container.record.autoRemove)
        }
        // A monitor that was killed after its last word on the state has left a ledger; the folder goes with it.
        try await Reaper.undo(container.paths, store.drivers)
    }

    /// Removes the one container that cannot be read and whose id begins so; false where there is none. Throws where it still runs.
    @Loop
    public func removeUnreadable(_ reference: String) async throws -> Bool {
        let named = try store.survey().unreadable.map(\.id).filter { !reference.isEmpty && $0.hasPrefix(reference) }
        guard named.count == 1, let id = named.first else { return false }
        let paths = store.roots.container(id)
        guard let lock = try paths.attemptLock(making: true) else {
            throw SandboxError(
                "container \(id.prefix(12)) still runs, and its record cannot be read: kill its monitor (the process hull monitor \(id)) first"
            )
        }
        defer { withExtendedLifetime(lock) {} }
        try store.remove(id)
        try await Reaper.undo(paths, store.drivers)
        return true
    }

    /// The container's lock, once whoever takes back its left-overs has done so: some milliseconds.
    @Loop
    private func heldLock(_ container: Container) async throws -> FileLock {
        let paths = container.paths
        let deadline = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < deadline {
            if let lock = try paths.attemptLock(making: true) { return lock }
            if try store.load(container.id)?.state.isLive == true { break }
            try await sleep(for: .milliseconds(5))
        }
        throw SandboxError("container \(container.name) is being started: stop it first, or use hull rm --force", exitCode: 1)
    }

    /// Removes a container that does not run.
    func removeStopped(_ container: Container, volumes: Bool) throws {
        try store.remove(container.id)
        guard volumes else { return }
        let all = try Volumes(root: store.roots.volumes)
        for mount in container.record.mounts {
            if case .volume(let name, anonymous: true) = mount.source {
                try all.remove(name, users: store.users(ofVolume:))
            }
        }
    }

    @Loop
    private func end(_ container: Container) async throws {
        do {
            let client = try MonitorClient(to: container)
            try await withDeadline(.seconds(15), awaiting: "the end of container \(container.name)") {
                try await client.ask(.discard)
                _ = try await client.expectExit()
            }
        } catch {
            // A monitor that does not listen (yet, or any more) is ended itself; the kernel ends what it owns.
            container.state.monitor?.signal(SIGKILL)
        }
        try await withDeadline(.seconds(10), awaiting: "the end of the monitor of \(container.name)") {
            while FileLock.isHeld(container.paths.lock) { try await sleep(for: .milliseconds(5)) }
        }
        var problems: [String] = []
        await Reaper(store).reapDead { problems.append($0) }
        if let problem = problems.first { throw SandboxError(problem) }
    }
}

extension ContainerStore {
    /// As `list`; throws where one cannot be read: what it uses is not known.
    private func whole() throws -> [Container] {
        let (containers, unreadable) = try survey()
        if let first = unreadable.first { throw first.why }
        return containers.filter { $0.record.pool == nil }
    }

    /// The names of the containers that use a volume.
    public func users(ofVolume volume: String) throws -> [String] {
        try whole().filter { container in
            container.record.mounts.contains {
                if case .volume(volume, _) = $0.source { true } else { false }
            }
        }.map(\.name)
    }

    /// The names of the containers that use an image.
    public func users(ofImage id: String) throws -> [String] {
        try whole().filter { container in
            if case .image(_, id, _) = container.record.root { true } else { false }
        }.map(\.name)
    }
}
