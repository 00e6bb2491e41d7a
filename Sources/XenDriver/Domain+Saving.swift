import LinuxSystem
import Machines

extension Domain: Snapshotting {
    /// Xen saves memory and devices in one stream: all of it is in `state`, and `memory` stays empty. The guest's kernel takes part: it detaches
    /// itself from Xen for the moment, and where it does not, xl gives up after a minute.
    func save(
        memory: SharedDescriptor, state: SharedDescriptor, over parent: Snapshot?,
        beforeStill before: @Loop () async throws -> Void, whileStill still: @Loop () async throws -> Void
    ) async throws -> [String: String] {
        guard parent == nil else {
            throw MachineError(.unsupported, "Xen saves all of a domain's memory: save it without another snapshot below")
        }
        guard plan.kind != .hvm else {
            throw MachineError(
                .unsupported,
                "an HVM domain cannot be saved: its QEMU cuts the file short that it writes its devices to, and fails where that is its domain's console, as Xen's toolstack wants it (Invalid argument); use --machine pvh"
            )
        }
        guard !hasShare else {
            throw MachineError(
                .unsupported,
                "a domain with bind mounts or volumes cannot be saved yet: the files that it has open are known to its share server only"
            )
        }
        try await before()
        try await toolstack.save(id, to: state)
        notePaused()
        try await still()
        return plan.facts
    }
}

extension DomainPlan {
    private static let version = "xen"
    private static let kind = "type"

    /// What a domain that is saved here has.
    var facts: [String: String] { [Self.version: Toolstack.version, Self.kind: kind.rawValue] }

    /// Throws where a domain that was saved with other facts cannot go on, and says which it is.
    func check(_ snapshot: Snapshot) throws(MachineError) {
        for (fact, name) in [(Self.version, "the version of Xen"), (Self.kind, "the type of domain")] {
            guard let saved = snapshot.facts[fact], saved != facts[fact] else { continue }
            throw MachineError(.unsupported, "\(name) was \(saved) when it was saved, and here it is \(facts[fact] ?? "another")")
        }
    }
}
