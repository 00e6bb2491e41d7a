import LinuxSystem
import Machines

/// Machines from saved ones: Xen's stream holds memory and devices, and names no device of the host.
struct XenTemplating: Templating {
    /// Which types domains can be of; nil for what this Xen says.
    var possible: Set<DomainConfiguration.Kind>?

    func shape(of spec: MachineSpec) throws -> [String] {
        let plan = try DomainPlan(spec, possible: possible ?? Xen.possible)
        guard plan.kind != .hvm else {
            throw MachineError(
                .unsupported, "there are no templates of HVM domains yet: a restored one with shares does not go away")
        }
        let configuration = plan.configuration(spec, devices: spec.disks.map(\.path))
        var words = [
            "xen \(Toolstack.version)", "type \(plan.kind.rawValue)", "memory \(configuration.megabytes)",
            "processors \(configuration.vcpus)", "kernel \(try Self.name(spec.kernel))",
            "initramfs \(try Self.name(spec.initramfs))", "arguments \(configuration.commandLine)",
        ]
        for disk in spec.disks {
            let identity = try FileIdentity(disk.path)
            words.append(
                "disk \(disk.name) \(disk.readOnly) "
                    + (disk.isFixed ? "\(disk.path) \(identity.text)" : "\(identity.size)\(disk.isFresh ? " fresh" : "")"))
        }
        for nic in spec.nics { words.append("nic \(nic.mtu ?? 0)") }
        if let share = spec.share { words.append("share \(share.tag)") }
        return words
    }

    /// A file that every machine of a shape has.
    private static func name(_ path: String) throws -> String { "\(path) \(try FileIdentity(path).text)" }

    // Xen has no copies of a domain that runs but by its memory sharing, which is experimental; nor is anything translated that was to be kept.
    var waking: (any Waking)? { nil }

    /// A domain has its memory for itself from its first moment: one that nobody waits for must leave enough for one that somebody does.
    func check(_ spec: MachineSpec) async throws {
        let free = try await Toolstack.find().facts()["free_memory"].flatMap { UInt64($0) }
        try Self.check(free: free, megabytes: spec.memoryBytes >> 20)
    }

    /// Whether there is room for a template's maker where Xen has `free` MiB for domains (nil: it does not say).
    static func check(free: UInt64?, megabytes: UInt64) throws(MachineError) {
        let wanted = 2 * (megabytes + Self.overhead)
        guard let free, free < wanted else { return }
        throw MachineError(
            .refused,
            "Xen has \(free) MiB of memory free, and a template of \(megabytes) MiB is made only where another domain of that size fits beside it (\(wanted) MiB)"
        )
    }

    /// What Xen needs for a domain besides its memory, in MiB; more than enough.
    private static let overhead: UInt64 = 16
}
