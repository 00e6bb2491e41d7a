public import LinuxSystem
import Glibc

/// The end of a live container, as a verb awaits it: by the monitor's word, and where that comes too late to be heard (it is
/// booting, or about to leave), by its lock and the state it writes.
public struct Ending: Sendable {
    private let store: ContainerStore
    private let container: Container

    public init(_ store: ContainerStore, _ container: Container) {
        self.store = store
        self.container = container
    }

    /// Asks it to end, and returns when it has ended. One that ended meanwhile is no error; one that still boots ends at once.
    @Loop
    public func stop(signal: Int32, seconds: Int) async throws {
        do {
            let client = try MonitorClient(to: container)
            try await client.ask(.stop(signal: signal, seconds: seconds))
            _ = try await client.expectExit()
        } catch {
            guard try await isLeaving() else { throw error }
            // PID 1 of its namespace takes SIGTERM because it handles it: its boot is called off, its container is stopped.
            container.state.monitor?.signal(SIGTERM)
            _ = try await exitCode(within: .seconds(seconds + 30))
        }
    }

    /// Waits for the end; the exit code. A container that was removed at its end answers through its monitor or not at all.
    @Loop
    public func wait() async throws -> Int32 {
        while true {
            do {
                let client = try MonitorClient(to: container)
                try await client.ask(.wait)
                return try await client.expectExit().code
            } catch {
                guard let now = try store.load(container.id) else { throw error }
                if case .exited(let exit) = now.state.status {
                    await released()
                    return exit.code
                }
                guard now.state.monitor?.isAlive == true else { return 137 }
                try await sleep(for: .milliseconds(20))
            }
        }
    }

    /// Returns when the monitor of a container whose state says that it has ended has let go of what it had: the state says so before its
    /// ports are free. One that does not come to that is not waited for, nor is one that somebody starts again.
    @Loop
    public func released() async {
        let (store, id, lock) = (store, container.id, container.paths.lock)
        // What is left then is the reaper's.
        try? await withDeadline(.seconds(30), awaiting: "the end of the monitor of \(container.name)") {
            while FileLock.isHeld(lock), try store.load(id)?.state.isLive == false { try await sleep(for: .milliseconds(5)) }
        }
    }

    /// Whether nobody listens because it boots, or has ended.
    @Loop
    private func isLeaving() async throws -> Bool {
        guard let now = try store.load(container.id), now.state.isLive else { return true }
        return !exists(container.paths.socket) || now.state.monitor?.isAlive != true
    }

    @Loop
    private func exitCode(within duration: Duration) async throws -> Int32? {
        let lock = container.paths.lock
        try await withDeadline(duration, awaiting: "the end of container \(container.name) (hull rm --force ends it at once)") {
            while FileLock.isHeld(lock) { try await sleep(for: .milliseconds(5)) }
        }
        if case .exited(let exit) = try store.load(container.id)?.state.status { return exit.code }
        return nil
    }
}
