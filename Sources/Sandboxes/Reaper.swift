import LinuxSystem

/// Finds containers whose monitor died, takes back what their ledgers name, and writes down that they ended. Every verb does this
/// first; for each live container it costs one question about a lock.
public struct Reaper: Sendable {
    private let store: ContainerStore

    public init(_ store: ContainerStore) { self.store = store }

    /// Does it; what cannot be taken back now is told to `complain`, and stays in its ledger for the next verb.
    @Loop
    public func reapDead(_ complain: (String) -> Void) async {
        do {
            var known: Set<String> = []
            for container in try store.list() {
                known.insert(container.id)
                guard container.state.isLive, !FileLock.isHeld(container.paths.lock) else { continue }
                try await attempt(complain, "container \(container.name)") { try await reap(container) }
            }
            try await reapStrays(known, complain)
            try store.collectLeftovers()
        } catch {
            complain("\(error)")
        }
    }

    /// What is left of sandboxes whose container is gone or ended, e.g. after a kill in the middle of a removal.
    @Loop
    private func reapStrays(_ known: Set<String>, _ complain: (String) -> Void) async throws {
        guard exists(store.roots.runtime) else { return }
        for id in try listDirectory(store.roots.runtime) where id.count == 64 {
            let paths = store.roots.container(id)
            guard exists(paths.ledger), !FileLock.isHeld(paths.lock) else { continue }
            try await attempt(complain, "sandbox \(id.prefix(12))") {
                guard let lock = try FileLock.attempt(paths.lock) else { return }
                if try store.load(id)?.state.isLive != true { try await Ledger(paths).undoAll() }
                withExtendedLifetime(lock) {}
            }
        }
    }

    @Loop
    private func reap(_ container: Container) async throws {
        let paths = container.paths
        // After a reboot there is no runtime folder, and nothing to undo.
        try makeDirectories(paths.runtime)
        guard let lock = try FileLock.attempt(paths.lock) else { return }
        defer { withExtendedLifetime(lock) {} }
        guard let now = try store.load(container.id), now.state.isLive else { return }
        let ledger = try Ledger(paths)
        if ledger.held.isEmpty { try await ledger.hold(.file(paths.runtime)) {} }
        try await ledger.undoAll()
        var started: Int64?
        if case .running(let running) = now.state.status { started = running.started }
        let exit = ContainerState.Exit(
            code: 137, started: started, finished: Timestamp.now.nanoseconds,
            error: "its monitor ended before it did: it was killed, or the host was restarted")
        try store.save(ContainerState(.exited(exit)), of: container.id)
        if container.record.autoRemove { try Removal(store).removeStopped(now, volumes: true) }
    }

    private func attempt(
        _ complain: (String) -> Void, _ what: String, _ body: () async throws -> Void
    ) async throws {
        do {
            try await body()
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            complain("cannot take back all that \(what) left on the host: \(error)")
        }
    }
}
