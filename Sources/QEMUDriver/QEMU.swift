import Glibc
import LinuxSystem
import MachineProcesses
public import Machines

/// The driver for QEMU, from 7.2 on.
public struct QEMU: Hypervisor {
    // 128 MiB for TCG's translations, 20 for QEMU's own, 6 for virtiofsd (docs/performance.md): with room to spare.
    public let traits = HypervisorTraits(name: "qemu", overheadBytes: 192 << 20)

    /// Looks for nothing yet.
    public nonisolated init() {}

    public func check() async throws -> [String] {
        var remarks: [String] = []
        let program = try QEMUProgram.find()
        let version = try await program.version()
        if version < (7, 2) {
            throw MachineError(
                .missing, "\(program.path) is version \(version.major).\(version.minor): install QEMU 7.2 or newer")
        }
        if version.major < 9 {
            remarks.append(
                "QEMU \(version.major).\(version.minor) cannot save a machine that has shares: install QEMU 9 or newer (Debian 12 has it in bookworm-backports)"
            )
        }
        switch ShareServerProgram.find() {
        case nil: remarks.append("\(ShareServerProgram.missing.sentence)")
        case .some(let server) where server.isLegacy:
            remarks.append(
                "\(server.command[0]) runs out of descriptors in big trees and cannot be saved: install virtiofsd 1.11 or newer")
        default: break
        }
        let kvm = KVMState.probe()
        if !kvm.works { remarks.append("machines run under software emulation (TCG), several times slower: \(kvm.explanation)") }
        return remarks
    }

    public nonisolated func layout(of spec: MachineSpec) throws -> GuestLayout {
        try GuestLayout(spec, on: try QEMUBoard.resolve(spec))
    }

    public func withMachine<R: Sendable>(
        _ source: MachineSource, in directory: MachineDirectory, _ body: @Loop (any VirtualMachine) async throws -> R
    ) async throws -> R {
        let machine: QEMUMachine
        switch source {
        case .boot(let spec):
            machine = try QEMUMachine(spec, try QEMUPlan(spec), in: directory)
        case .restore(let spec, let snapshot):
            let plan = try QEMUPlan(spec)
            try plan.check(snapshot)
            machine = try QEMUMachine(
                spec, plan, from: snapshot, snapshot.awake.map { .copy(of: AwakePlace(folder: $0)) } ?? .alone, in: directory)
        case .parked:
            throw MachineError(.unsupported, "a machine of QEMU's ends with its monitor, and cannot wait for another one")
        }
        return try await Self.with(machine, body)
    }

    /// Runs `body` with a machine, and takes it down.
    fileprivate static func with<R: Sendable>(
        _ machine: QEMUMachine, _ body: @Loop (any VirtualMachine) async throws -> R
    ) async throws -> R {
        do {
            try await machine.begin()
            let result = try await body(machine)
            await machine.stop(grace: .zero)
            try machine.remove()
            return result
        } catch {
            await machine.stop(grace: .zero)
            do { try machine.remove() } catch let second {
                throw MachineError(.startFailed, "\(error); and the machine could not be taken down", cause: second)
            }
            throw error
        }
    }

    public nonisolated var templating: (any Templating)? { QEMUTemplating() }
    public nonisolated var reclaiming: (any Reclaiming)? { nil }
}

extension QEMUTemplating: Waking {
    var waking: (any Waking)? { self }

    /// Under KVM code needs no translation, and a machine of KVM's cannot be in another process.
    func gains(_ spec: MachineSpec) -> Bool {
        // Who cannot be planned will hear so where she is.
        guard let plan = try? QEMUPlan(spec) else { return false }
        return plan.accelerator == .tcg && plan.shareServer?.isLegacy != true && !spec.confinement.isRootless
            && spec.confinement.profile == nil && spec.confinement.labels == nil && exists(AwakePlace.library)
    }

    func keepAwake(
        _ spec: MachineSpec, _ snapshot: Snapshot, at place: String, in directory: MachineDirectory,
        rehearse: @Loop (any VirtualMachine) async throws -> Void, until wait: @Loop (any VirtualMachine) async throws -> Void
    ) async throws {
        let plan = try QEMUPlan(spec)
        try plan.check(snapshot)
        let awake = AwakePlace(folder: place)
        let machine = try QEMUMachine(spec, plan, from: snapshot, .keeping(awake), in: directory)
        try await QEMU.with(machine) { _ in
            try await rehearse(machine)
            try await machine.publish(at: awake, disks: spec.disks.map(\.path))
            // Copies are made without it, too.
            let sparing = Task { @Loop in try? await machine.keepSpare(at: awake) }
            defer { sparing.cancel() }
            try await wait(machine)
        }
    }
}

/// All that is decided about a machine before anything is started.
struct QEMUPlan {
    /// Below this the guest's kernel cannot unpack itself and its initramfs.
    static let leastMemory: UInt64 = 128 << 20

    var program: QEMUProgram
    var board: QEMUBoard
    var accelerator: ResolvedAccelerator
    var tscKilohertz: UInt64?
    var shareServer: ShareServerProgram?
    var layout: GuestLayout

    /// Decides, or says what cannot be honoured.
    init(_ spec: MachineSpec) throws {
        board = try QEMUBoard.resolve(spec)
        layout = try GuestLayout(spec, on: board)
        guard spec.memoryBytes >= Self.leastMemory else {
            throw MachineError(
                .unsupported,
                "a machine with \(spec.memoryBytes >> 20) MiB of memory cannot boot: give it at least \(Self.leastMemory >> 20) MiB"
            )
        }
        guard (1...255).contains(spec.vcpus) else {
            throw MachineError(.unsupported, "a machine cannot have \(spec.vcpus) CPUs: from 1 to 255")
        }
        for nic in spec.nics where !Self.isMAC(nic.mac) {
            throw MachineError(
                .unsupported, "'\(nic.mac)' is no MAC address of a network interface: six pairs of lower-case hexadecimal digits")
        }
        for nic in spec.nics {
            guard case .tap = nic.end else {
                throw MachineError(.unsupported, "QEMU's machines have taps at the host's end of their NICs")
            }
        }
        program = try QEMUProgram.find()
        accelerator = try ResolvedAccelerator.resolve(spec.accelerator, KVMState.probe())
        tscKilohertz = accelerator == .tcg ? TSCFrequency.kilohertz() : nil
        if spec.share != nil {
            guard let server = ShareServerProgram.find() else { throw ShareServerProgram.missing }
            shareServer = server
        }
    }

    static func isMAC(_ text: String) -> Bool {
        let parts = text.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        return parts.count == 6
            && parts.allSatisfy { part in
                part.count == 2
                    && part.allSatisfy {
                        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                            || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
                    }
            }
    }
}
