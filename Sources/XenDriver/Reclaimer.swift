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
        if let seen, !seen.isDying {
            asked = true
            // Somebody else may have been quicker: what is left is seen below.
            do { try await toolstack.destroy(seen.id) } catch { asked = false }
        }
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
