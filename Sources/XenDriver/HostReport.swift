import Machines

/// What `hull doctor` says of a Dom0, from what was found there. Pure.
struct HostReport: Sendable {
    /// `xl info`.
    var facts: [String: String]
    /// xl's path.
    var program: String
    var possible: Set<DomainConfiguration.Kind>
    /// Those of `modules` that the Dom0's kernel has.
    var modules: Set<String>
    /// Whether xenconsoled runs.
    var hasConsoleDaemon: Bool
    /// Whether there is a virtiofsd.
    var hasShareServer: Bool
    /// The packages of `emulation` that are not installed.
    var lackingEmulation: [String] = []

    /// What serves the domains' devices.
    static let modules = ["xen_blkback", "xen_netback"]

    /// What xl needs on the host for HVM domains, whose QEMU may be elsewhere: the QEMU that serves the consoles of the device model's domain, the
    /// proxy of its control connection, and the firmware. Files, and Debian's packages of them.
    static let emulation = [
        ("/usr/libexec/xen-qemu-system-i386", "qemu-system-xen"), ("/usr/bin/vchan-socket-proxy", "xen-utils-common"),
        ("/usr/share/seabios/bios-256k.bin", "seabios"),
    ]

    /// Throws for the first thing without which no domain runs.
    func check() throws(MachineError) {
        guard modules.contains("xen_blkback") else {
            throw MachineError(.missing, "the Dom0's kernel serves domains no disks: modprobe xen-blkback")
        }
        guard hasConsoleDaemon else {
            throw MachineError(.missing, "nobody carries domains' consoles: start xenconsoled (Debian's service xen does)")
        }
        if let free = megabytes("free_memory"), free < DomainPlan.leastMemory >> 20 {
            throw MachineError(.missing, "only \(free) MiB of memory are free for domains: \(Self.moreMemory)")
        }
    }

    private static let moreMemory =
        "the Dom0 has taken the rest; boot Xen with dom0_mem=2G,max:2G, or give some back with xl mem-set 0"

    /// What else is worth knowing.
    var remarks: [String] {
        var all = ["Xen \(facts["xen_version"] ?? "of an unknown version"), by \(program)", types, memory, network]
        if possible.contains(.hvm), !lackingEmulation.isEmpty {
            all.append("--machine hvm does not work: apt-get install \(lackingEmulation.joined(separator: " "))")
        }
        if !hasShareServer {
            all.append(
                "bind mounts, volumes and rootfs: are refused: install virtiofsd 1.11 or newer, or run Hull's set-up script")
        }
        return all
    }

    /// Which types of domains there can be.
    private var types: String {
        let abilities = Set((facts["virt_caps"] ?? "").split(separator: " "))
        let can = [("PV", DomainConfiguration.Kind.pv), ("PVH", .pvh), ("HVM", .hvm)].filter {
            possible.contains($0.1) && ($0.1 != .pv || abilities.contains("pv"))
        }.map(\.0)
        let known = "domains can be \(can.isEmpty ? "of no type that is known" : can.joined(separator: ", "))"
        guard possible.contains(.pvh) else {
            return known
                + ": machines are PV, which Xen's makers advise against for what is not trusted; enable virtualisation in the firmware"
        }
        return known
            + (abilities.contains("hap") ? "; machines are PVH" : ", without paging in hardware: machines are PVH, and slow")
    }

    private var memory: String {
        guard let free = megabytes("free_memory"), let total = megabytes("total_memory") else {
            return "how much memory is free for domains is not known"
        }
        let text = "\(free) of \(total) MiB of memory are free for domains"
        // The default machine.
        return free < 1024 ? "\(text): \(Self.moreMemory)" : text
    }

    private var network: String {
        guard modules.contains("xen_netback") else { return "only --network none works yet: modprobe xen-netback" }
        return "domains' networks are at a bridge of Hull's own, hull0, which comes with the first of them; xenbr0 is not needed"
    }

    private func megabytes(_ name: String) -> UInt64? { facts[name].flatMap { UInt64($0) } }
}
