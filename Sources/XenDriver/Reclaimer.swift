import LinuxSystem
import Machines

/// Takes domains away, by what no other domain can have: their UUID.
struct Reclaimer: Reclaiming {
    let toolstack: Toolstack

    func reclaim(_ id: String) async throws {
        guard let uuid = DomainPlan.uuid(of: id) else { return }
        try await reclaim(uuid: uuid, nil)
    }

    /// Returns when no domain has that UUID. `releases` tells when one has gone; without, it is asked again after a while.
    @Loop
    func reclaim(uuid: String, _ releases: AsyncStream<Void>?) async throws {
        var asked = false
        try await withDeadline(.seconds(120), awaiting: "the end of the domain \(uuid)") {
            while let state = try await toolstack.domains()[uuid] {
                if !asked, !state.isDying {
                    asked = true
                    do { try await toolstack.destroy(state.id) } catch {
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
