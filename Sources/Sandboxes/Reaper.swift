import Glibc
public import LinuxSystem

/// Finds containers whose monitor died, takes back what their ledgers name, and writes down that they ended. Every verb does this
/// first; for each container it costs reading two small files, and for a live one a question about a lock.
public struct Reaper: Sendable {
    private let store: ContainerStore

    public init(_ store: ContainerStore) { self.store = store }

    /// Does it; what cannot be taken back now is told to `complain`, and stays in its ledger for the next verb.
    @Loop
    public func reapDead(_ complain: (String) -> Void) async {
        do {
            // Machines that stay are in no container's ledger. They end before networks are taken back: a domain's interface goes with it only.
            try await ResidentStore(store.roots, drivers: store.drivers).collect(complain)
            let (containers, unreadable) = try store.survey()
            for one in unreadable { complain("\(one.why)") }
            for found in containers {
                try await attempt(complain, "container \(found.name)") {
                    var container = found
                    if found.state.isLive, try await isDead(found) {
                        try await reap(found)
                        guard let now = try store.load(found.id) else { return }
                        container = now
                    }
                    // A monitor that was killed between its last word on the state and the removal that --rm asks for.
                    if container.isOverdue { try await Removal(store).remove(container, volumes: true) }
                    // A restore whose verb was killed before the machine was there, or that failed when nobody was left to be told.
                    if container.isAbandonedRestore { try await Removal(store).remove(container, volumes: false) }
                }
            }
            try await reapStrays(complain)
            try store.collectLeftovers()
        } catch {
            complain("\(error)")
        }
    }

    /// What is left of sandboxes whose container is gone or ended, e.g. after a kill in the middle of a removal.
    @Loop
    private func reapStrays(_ complain: (String) -> Void) async throws {
        guard exists(store.roots.runtime) else { return }
        let names = try listDirectory(store.roots.runtime)
        for name in names where name.hasPrefix(ContainerPaths.removing) {
            try await attempt(complain, "a sandbox (\(name))") { try removeTree("\(store.roots.runtime)/\(name)") }
        }
        for id in names where id.count == 64 {
            let paths = store.roots.container(id)
            guard !FileLock.isHeld(paths.lock) else { continue }
            try await attempt(complain, "sandbox \(id.prefix(12))") {
                guard let lock = try paths.attemptLock(making: false) else { return }
                defer { withExtendedLifetime(lock) {} }
                // One that cannot be read has no monitor either: somebody else would have the lock.
                let isLive: Bool
                do { isLive = try store.load(id)?.state.isLive == true } catch is SandboxError { isLive = false }
                if !isLive { try await Self.undo(paths, store.drivers) }
            }
        }
    }

    @Loop
    private func reap(_ container: Container) async throws {
        let paths = container.paths
        // After a reboot there is no runtime folder, and nothing to undo in a new one.
        guard let lock = try paths.attemptLock(making: true) else { return }
        defer { withExtendedLifetime(lock) {} }
        guard let now = try store.load(container.id), now.state.isLive else { return try await Self.undo(paths, store.drivers) }
        var started: Int64?
        if case .running(let running) = now.state.status { started = running.started }
        let exit = ContainerState.Exit(
            code: 137, started: started, finished: Timestamp.now.nanoseconds,
            error: "its monitor ended before it did: it was killed, or the host was restarted")
        // The truth first: whoever asks meanwhile gets it, and a new start, which waits for the lock, is not overwritten. What a
        // kill leaves of the rest is a stray of an ended container.
        try store.save(ContainerState(.exited(exit)), of: container.id)
        Fault.point("reap:saved")
        if container.record.autoRemove { try Removal(store).removeStopped(now, volumes: true) }
        try await Self.undo(paths, store.drivers)
    }

    /// Whether a live state is that of a monitor that is gone. Where somebody else is reaping it, waits until the state says so:
    /// what a verb shows or does must not depend on who came first.
    @Loop
    private func isDead(_ container: Container) async throws -> Bool {
        guard FileLock.isHeld(container.paths.lock) else { return true }
        guard let monitor = container.state.monitor, !monitor.isAlive else { return false }
        try await withDeadline(.seconds(10), awaiting: "another verb's taking back of container \(container.name)") {
            while FileLock.isHeld(container.paths.lock), try store.load(container.id)?.state.isLive == true {
                try await sleep(for: .milliseconds(5))
            }
        }
        return !FileLock.isHeld(container.paths.lock)
    }

    /// Takes back what the ledger names, and the folder even where its owner was killed before it had a ledger.
    @Loop
    static func undo(_ paths: ContainerPaths, _ drivers: Ledger.Drivers) async throws {
        let ledger = try Ledger(paths, drivers: drivers)
        if ledger.held.isEmpty { try await ledger.hold(.folder(paths.runtime)) {} }
        try await ledger.undoAll()
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

extension Container {
    /// Whether it was to be restored, never ran, and nobody is at it.
    fileprivate var isAbandonedRestore: Bool {
        !state.isLive && exists(paths.restoring) && !FileLock.isHeld(paths.restoring) && !FileLock.isHeld(paths.lock)
    }

    /// Whether it has ended, was to go with its end, and nobody is at it; or was to wait in a pool, and whoever made it died before its machine began.
    fileprivate var isOverdue: Bool {
        guard !FileLock.isHeld(paths.lock) else { return false }
        switch state.status {
        case .exited: return record.autoRemove
        case .created: return record.pool != nil && !FileLock.isHeld("\(roots.data)/pools/.lock")
        case .starting, .running: return false
        }
    }
}
