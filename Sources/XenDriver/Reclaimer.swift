import LinuxSystem
import Machines

/// Takes domains away, by what no other domain can have: their UUID.
struct Reclaimer: Reclaiming {
    let toolstack: Toolstack

    func reclaim(_ id: String) async throws {
        guard let uuid = DomainPlan.uuid(of: id) else { return }
        try await reclaim(uuid: uuid)
    }

    /// xl's processes for a device model ended with the monitor, in whose namespace they were.
    @Loop
    private func forgetProcesses(of id: UInt32) async throws {
        let store = try Store.connect()
        defer { store.close() }
        let model = try await store.read("/local/domain/\(id)/image/device-model-domid").flatMap { UInt32($0) }
        for domain in [id, model].compactMap({ $0 }) { try await DeviceModel.forget(processesOf: domain, store) }
    }

    /// Returns when no domain has that UUID. `seen` is its state where that is known already, `destroyed` are those that xl was told to take away, and
    /// did; `releases` tells when a domain has gone, and without, it is asked again after a while.
    @Loop
    func reclaim(uuid: String, seen: DomainState? = nil, destroyed: Set<UInt32> = [], _ releases: AsyncStream<Void>? = nil)
        async throws
    {
        var asked = destroyed
        try await withDeadline(.seconds(120), awaiting: "the end of the domain \(uuid)") {
            var state = seen
            while true {
                if state == nil {
                    let domains = try await toolstack.domains()
                    // xl takes a device model's domain away with its own; where xl was killed before it had told the store of it, it stays.
                    state = domains[uuid] ?? domains.values.first { $0.isStubdomain(of: uuid) }
                }
                guard let now = state else { return }
                state = nil
                if asked.insert(now.id).inserted {
                    // A device model's domain that was left alone has its logs under the name of the one that it served.
                    defer { DeviceModel.removeLogs(of: String(now.name.hasSuffix("-dm") ? now.name.dropLast(3) : now.name[...])) }
                    try await forgetProcesses(of: now.id)
                    // One that dies already may have lost whoever was destroying it: its devices, without whose end it stays, are still to be
                    // taken away.
                    do { try await toolstack.destroy(now.id) } catch {
                        // Somebody else may have been quicker.
                        if try await toolstack.domains().values.contains(where: { $0.id == now.id && !$0.isDying }) {
                            throw error
                        }
                    }
                } else if let releases {
                    await Domain.next(of: releases)
                } else {
                    try await sleep(for: .milliseconds(200))
                }
            }
        }
    }
}
