import Machines
import StubdomainProtocol

/// What is decided about a domain before anything is made. Pure.
struct DomainPlan: Sendable {
    var kind: DomainConfiguration.Kind
    var name: String
    var uuid: String
    var layout: GuestLayout

    /// Below this the guest's kernel cannot unpack itself and its initramfs.
    static let leastMemory: UInt64 = 128 << 20

    /// Decides, or says what cannot be honoured, where Xen runs domains of the types `possible`. Of those `auto` is PVH, else PV.
    init(_ spec: MachineSpec, possible: Set<DomainConfiguration.Kind>) throws {
        layout = try GuestLayout(xen: spec)
        guard spec.memoryBytes >= Self.leastMemory else {
            throw MachineError(
                .unsupported,
                "a domain with \(spec.memoryBytes >> 20) MiB of memory cannot boot: give it at least \(Self.leastMemory >> 20) MiB"
            )
        }
        guard (1...128).contains(spec.vcpus) else {
            throw MachineError(.unsupported, "a domain cannot have \(spec.vcpus) CPUs: from 1 to 128")
        }
        guard spec.accelerator == .auto else {
            throw MachineError(.unsupported, "Xen runs domains itself: leave --accel out, which chooses how QEMU does")
        }
        switch spec.kind {
        case .pv: kind = .pv
        case .pvh: kind = .pvh
        case .hvm: kind = .hvm
        case .auto: kind = possible.contains(.pvh) ? .pvh : .pv
        case .microvm, .q35:
            throw MachineError(
                .unsupported, "Xen has no board \(spec.kind.rawValue), which is one of QEMU's: choose pv, pvh, hvm or auto")
        }
        guard possible.contains(kind) else {
            throw MachineError(
                .unsupported,
                possible == [.pv]
                    ? "this Xen runs no hardware-assisted domains (xl info, virt_caps): use --machine pv, or enable virtualisation in the firmware"
                    : "this Xen's domains are PVH alone: use --machine pvh or auto")
        }
        // Without a stubdomain, xl would start the QEMU on the host.
        guard kind != .hvm || spec.stubdomain != nil else {
            throw MachineError(
                .missing, "an HVM domain needs an image for its device model: make one with hull stubdomain build")
        }
        guard let uuid = Self.uuid(of: spec.id) else {
            throw MachineError(.unsupported, "a domain's id must begin with 32 hexadecimal digits, unlike '\(spec.id)'")
        }
        self.uuid = uuid
        name = "hull-\(spec.id)"
    }

    /// A domain's UUID is the beginning of its sandbox's id.
    static func uuid(of id: String) -> String? {
        let digits = Array(id.utf8.prefix(32))
        guard digits.count == 32, digits.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else { return nil }
        let text = String(decoding: digits, as: UTF8.self)
        var parts: [Substring] = []
        var rest = text[...]
        for length in [8, 4, 4, 4, 12] {
            parts.append(rest.prefix(length))
            rest = rest.dropFirst(length)
        }
        return parts.joined(separator: "-")
    }

    /// What xl is told, with the host's block devices of the spec's disks.
    func configuration(_ spec: MachineSpec, devices: [String]) -> DomainConfiguration {
        DomainConfiguration(
            name: name, uuid: uuid, kind: kind, megabytes: (spec.memoryBytes + 0xF_FFFF) >> 20, vcpus: spec.vcpus,
            kernel: kind == .hvm ? Stubdomain.kernel : spec.kernel,
            initramfs: kind == .hvm ? Stubdomain.initramfs : spec.initramfs,
            // A panic is told from a reboot by its reason, which the kernel gives only so.
            commandLine: ["console=hvc0", "quiet", "panic=-1", "xen_legacy_crash", "cryptomgr.notests=1", "random.trust_cpu=on"]
                + spec.kernelArguments,
            disks: zip(spec.disks, devices).enumerated().map { index, pair in
                .init(name: GuestLayout.xenDisk(kind.firstPlace + index), path: pair.1, readOnly: pair.0.readOnly)
            },
            nics: spec.nics.map(\.mac),
            stubdomain: spec.stubdomain.map {
                .init(kernel: $0.kernel, ramdisk: $0.ramdisk, megabytes: ($0.memoryBytes + 0xF_FFFF) >> 20)
            })
    }
}

extension GuestLayout {
    /// How a domain of `spec` looks from inside: its disks are named by us.
    init(xen spec: MachineSpec) throws(MachineError) {
        for nic in spec.nics {
            guard case .interface = nic.end else {
                throw MachineError(
                    .unsupported,
                    "a Xen domain has no taps, which container engines' networks are led to: use --network none there")
            }
        }
        var disks: [String: GuestDisk] = [:]
        let first = spec.kind == .hvm ? DomainConfiguration.Kind.hvm.firstPlace : 0
        for (index, disk) in spec.disks.enumerated() {
            guard first + index < 26 else { throw MachineError(.unsupported, "a machine has at most \(26 - first) disks") }
            guard disks.updateValue(GuestDisk(path: "/dev/\(Self.xenDisk(first + index))"), forKey: disk.name) == nil else {
                throw MachineError(.unsupported, "two disks cannot both be named '\(disk.name)'")
            }
        }
        var modules = ["xen_evtchn", "xen_gntalloc"]
        if !spec.disks.isEmpty { modules.append("xen_blkfront") }
        if !spec.nics.isEmpty { modules.append("xen_netfront") }
        if spec.share != nil { modules.append("fuse") }
        self.init(
            disks: disks, share: spec.share.map { GuestShare(tag: $0.tag, carrier: .relay) }, nics: spec.nics.map(\.mac),
            modules: modules, agentStream: .sharedMemory,
            kernelArguments: [])
    }

    static func xenDisk(_ index: Int) -> String { "xvd\(Character(Unicode.Scalar(UInt8(ascii: "a") + UInt8(index))))" }
}
