import LinuxSystem
import Sandboxes

/// What `restore` and `fork` do: containers out of a saved one, running.
enum Restoring {
    /// Starts `count` of them at once; returns them when all run. Those that cannot are removed, and the first reason is thrown.
    @Loop static func start(
        _ restoration: Restoration, count: Int, names: (Int) -> String?, isFork: Bool, origin: String, in store: ContainerStore
    ) async throws -> [Container] {
        var begun: [(made: Restoration.Made, client: MonitorClient)] = []
        var failure: (any Error)?
        do {
            for number in 0..<count {
                let made = try await restoration.make(
                    name: names(number), isFork: isFork, origin: origin, now: Timestamp.now.nanoseconds)
                do {
                    let (client, _) = try await Launch.monitor(of: made.container)
                    begun.append((made, client))
                    try await client.ask(.restore(folder: restoration.folder, isFork: isFork, Streams()))
                } catch {
                    if begun.last?.made !== made { try await Removal(store).remove(made.container, force: true) }
                    throw error
                }
            }
        } catch {
            failure = error
        }
        var running: [Container] = []
        for (made, client) in begun {
            do {
                try await client.expectDone()
                running.append(made.container)
            } catch {
                failure = failure ?? error
                try await remove(made.container, in: store)
            }
        }
        if let failure { throw failure }
        return running
    }

    @Loop private static func remove(_ container: Container, in store: ContainerStore) async throws {
        // Its monitor may have removed it, as --rm asked.
        guard let now = try store.load(container.id) else { return }
        try await Removal(store).remove(now, force: true)
    }
}
