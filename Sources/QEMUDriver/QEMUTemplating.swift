import Glibc
import LinuxSystem
import MachineProcesses
import Machines

/// Machines from saved ones: the memory is in a file of its own, and QEMU's stream holds the devices alone.
struct QEMUTemplating: Templating {
    func shape(of spec: MachineSpec) throws -> [String] {
        let plan = try QEMUPlan(spec)
        var words = [
            "program \(plan.program.path) \(try FileIdentity(plan.program.path).text)", "board \(plan.board.rawValue)",
            "accelerator \(plan.accelerator.rawValue) \(plan.accelerator == .kvm ? Self.processor() : "")",
            "memory \(spec.memoryBytes)", "processors \(spec.vcpus)", "kernel \(try Self.name(spec.kernel))",
            "initramfs \(try Self.name(spec.initramfs))", "arguments \(spec.kernelArguments)",
        ]
        for disk in spec.disks {
            let identity = try FileIdentity(disk.path)
            words.append(
                "disk \(disk.name) \(disk.readOnly) "
                    + (disk.isFixed ? "\(disk.path) \(identity.text)" : "\(identity.size)\(disk.isFresh ? " fresh" : "")"))
        }
        if let growth = spec.growth { words.append("growth \(growth.memoryBytes) \(growth.vcpus)") }
        for nic in spec.nics { words.append("nic \(nic.mtu ?? 0)") }
        if let share = spec.share, let server = plan.shareServer {
            guard !server.isLegacy else {
                throw MachineError(.unsupported, "\(server.command[0]) cannot be saved: install virtiofsd 1.11 or newer")
            }
            words.append(
                "share \(share.tag) \(server.command) \(try FileIdentity(server.command[server.command.count - 1]).text)")
        }
        return words
    }

    /// A file that every machine of a shape has.
    private static func name(_ path: String) throws -> String { "\(path) \(try FileIdentity(path).text)" }

    /// The host's processor, which KVM shows the guest.
    static func processor() -> String {
        // Without it any two processors look the same; where there is KVM there is a /proc.
        let text = (try? readText("/proc/cpuinfo")) ?? ""
        return text.split(separator: "\n").prefix { !$0.isEmpty }.filter { line in
            ["model name", "flags", "microcode", "cpu family", "model\t", "stepping"].contains { line.hasPrefix($0) }
        }.joined(separator: ";")
    }

    /// 9.0 is the first whose `file:` migration takes a descriptor, 8.2 the first that maps a file privately that it may not write
    /// (`readonly=on,rom=off`).
    func check(_ spec: MachineSpec) async throws {
        let program = try QEMUProgram.find()
        let version = try await program.version()
        if version < (9, 0) {
            throw MachineError(
                .missing,
                "\(program.path) is version \(version.major).\(version.minor), which saves no machines: install QEMU 9 or newer")
        }
    }
}

extension QEMUPlan {
    /// The fact under which a snapshot has the frequency of its host's time stamp counter, in kHz.
    static let clockFact = "tsc-khz"
    static let versionFact = "qemu"
    private static let boardFact = "board"
    private static let acceleratorFact = "accelerator"
    private static let processorFact = "processor"

    /// What a machine that is saved here has, besides QEMU's version.
    var facts: [String: String] {
        var facts = [Self.boardFact: board.rawValue, Self.acceleratorFact: accelerator.rawValue]
        if let tscKilohertz { facts[Self.clockFact] = "\(tscKilohertz)" }
        if accelerator == .kvm { facts[Self.processorFact] = QEMUTemplating.processor() }
        return facts
    }

    /// Throws where a machine that was saved with other facts cannot go on, and says which it is.
    func check(_ snapshot: Snapshot) throws(MachineError) {
        let here = facts
        for (fact, name) in [(Self.boardFact, "the board"), (Self.acceleratorFact, "the accelerator")] {
            guard let saved = snapshot.facts[fact], saved != here[fact] else { continue }
            throw MachineError(
                .unsupported, "\(name) of the saved machine is \(saved), and here it is \(here[fact] ?? "another")")
        }
        if accelerator == .kvm, let saved = snapshot.facts[Self.processorFact], saved != here[Self.processorFact] {
            throw MachineError(
                .unsupported,
                "the machine was saved on another processor, or under other microcode, and KVM shows the guest the host's own")
        }
        try checkClock(of: snapshot)
    }

    /// Throws where the guest's clock, which counts the host's time stamp counter at a frequency that it was told when it booted, would
    /// be further off than the agent's clock can be corrected by at once.
    func checkClock(of snapshot: Snapshot) throws(MachineError) {
        guard let tscKilohertz, let saved = snapshot.facts[Self.clockFact].flatMap({ UInt64($0) }) else { return }
        let off = max(saved, tscKilohertz) - min(saved, tscKilohertz)
        guard off * 1000 <= saved else {
            throw MachineError(
                .unsupported,
                "the machine was saved where the time stamp counter runs at \(saved) kHz, and here it runs at \(tscKilohertz)")
        }
    }
}
