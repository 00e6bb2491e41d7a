import LinuxSystem
import Machines

/// The two devices by which a machine's memory changes: virtio-mem gives more than it began with and takes that back, a balloon takes
/// of what it began with.
@Loop
final class MemoryDevices: Resizing {
    nonisolated let modules = ["virtio_mem", "virtio_balloon"]
    private let control: QMPClient
    private let initial: UInt64  // MiB
    private let later: UInt64  // MiB

    init(_ control: QMPClient, initial: UInt64, later: UInt64) {
        self.control = control
        self.initial = initial
        self.later = later
    }

    /// How long a guest may take to give back what it can, or to take what it was given.
    private static let patience = Duration.seconds(5)

    func resize(memory bytes: UInt64) async throws -> UInt64 {
        let wanted = (bytes + 0xF_FFFF) >> 20
        guard wanted <= initial + later else {
            throw MachineError(
                .unsupported, "the machine can have at most \(initial + later) MiB of memory, not \(wanted): start it anew")
        }
        // virtio-mem gives blocks of 2 MiB.
        let more = wanted > initial ? (wanted - initial + 1) & ~1 : 0
        let rest = min(wanted, initial)
        // One after the other: pages that a balloon has taken stand in the way of blocks that are to go.
        let inflates = rest < initial
        if !inflates { try await inflate(to: rest) }
        try await control.execute(
            "qom-set", ["path": .string(Self.path), "property": .string("requested-size"), "value": .integer(Int64(more << 20))])
        let plugged = try await settled(at: more << 20, plugged)
        if inflates { try await inflate(to: rest) }
        return try await plugged + settled(at: rest << 20, left)
    }

    private func inflate(to megabytes: UInt64) async throws {
        try await control.execute("balloon", ["value": .integer(Int64(megabytes << 20))])
    }

    /// Waits until a size is what it is to be, and returns what it is then.
    private func settled(at wanted: UInt64, _ size: @Loop () async throws -> UInt64) async throws -> UInt64 {
        let end = ContinuousClock.now + Self.patience
        while true {
            let now = try await size()
            if now == wanted || ContinuousClock.now >= end { return now }
            try await sleep(for: .milliseconds(20))
        }
    }

    private static let path = "/machine/peripheral/\(QEMUArguments.growingDevice)"

    /// Bytes that virtio-mem gave.
    private func plugged() async throws -> UInt64 {
        try size(await control.execute("qom-get", ["path": .string(Self.path), "property": .string("size")]).count)
    }

    /// Bytes that the balloon left of those that the machine began with.
    private func left() async throws -> UInt64 { try size(await control.execute("query-balloon")["actual"]?.count) }

    private func size(_ answer: Int64?) throws -> UInt64 {
        guard let answer, answer >= 0 else { throw MachineError(.refused, "QEMU does not say how much memory the guest has") }
        return UInt64(answer)
    }
}
