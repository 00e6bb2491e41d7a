import Images
import LinuxSystem
import Sandboxes
import Storage

/// Makes the machines that pools want, and ends those that they do not want any more. One process at a time does it.
struct PoolFilling {
    let store: ContainerStore

    /// Does it for all pools, or says by false that somebody else is at it.
    @Loop func run() async throws -> Bool {
        let pools = PoolStore(store)
        guard let lock = try pools.attemptLock() else { return false }
        defer { withExtendedLifetime(lock) {} }
        for pool in try pools.list() {
            let model = try await record(of: pool, id: ContainerStore.newIdentifier())
            var members = try pools.members(of: pool).filter(\.state.isLive)
            // The image has become another since, or fewer are wanted.
            let stale = members.filter { PoolShape($0.record) != PoolShape(model) }
            members.removeAll { member in stale.contains { $0.id == member.id } }
            let surplus = Array(members.dropFirst(pool.count))
            try await pools.end(stale + surplus)
            for _ in min(members.count, pool.count)..<pool.count {
                let member = try await Creation.add(try await record(of: pool, id: ContainerStore.newIdentifier()), to: store)
                // Whoever forgets the pool ends the members that it sees: this one, or we see that it was forgotten.
                guard pools.contains(pool) else {
                    try await pools.end([member])
                    break
                }
                try await start(member)
            }
        }
        return true
    }

    /// What a member waits as. Throws where no machine can wait for such containers.
    @Loop func record(of pool: Pool, id: String) async throws -> ContainerRecord {
        var request = pool.request
        request.name = id
        let source = try ImageSource(pool.image, relativeTo: "/")
        var (record, held) = try await Creation.resolve(
            source, as: pool.image, id: id, request, .never, store, PullDisplay(quiet: true))
        withExtendedLifetime(held) {}
        guard PoolShape(record) != nil else {
            throw SandboxError(
                "no machine can wait for containers of \(pool.image): the image has volumes of its own, or is a folder, and what is shared with the host is part of a machine"
            )
        }
        record.pool = pool.key
        return record
    }

    @Loop private func start(_ member: Container) async throws {
        let (client, _) = try await Launch.monitor(of: member)
        do {
            try await client.ask(.keep)
            try await client.expectDone()
        } catch {
            if let left = try store.load(member.id), !left.state.isLive { try await Removal(store).remove(left) }
            throw error
        }
    }
}
