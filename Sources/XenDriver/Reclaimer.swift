import LinuxSystem
import Machines

/// Takes domains away, by what no other domain can have: their UUID.
struct Reclaimer: Reclaiming {
    let toolstack: Toolstack

    func reclaim(_ id: String) async throws {
        guard let uuid = DomainPlan.uuid(of: id) else { return }
        try await reclaim(uuid: uuid)
    }

    /// Returns when no domain has that UUID. `seen` is its state where that is known already; `releases` tells when a domain has gone, and without, it
    /// is asked again after a while.
    @Loop
    func reclaim(uuid: String, seen: DomainState? = nil, _ releases: AsyncStream<Void>? = nil) async throws {
        var asked = false
        try await withDeadline(.seconds(120), awaiting: "the end of the domain \(uuid)") {
            var state = seen
            while true {
                if state == nil { state = try await toolstack.domains()[uuid] }
                guard let now = state else { return }
                state = nil
                if !asked {
                    asked = true
                    // One that dies already may have lost whoever was destroying it: its devices, without whose end it stays, are still to be
                    // taken away.
                    do { try await toolstack.destroy(now.id) } catch {
                        // Somebody else may have been quicker.
                        if try await toolstack.domains()[uuid]?.isDying == false { throw error }
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
