import Machines

/// A board, decided, and what follows from it. Pure.
enum QEMUBoard: String, Hashable, Sendable {
    case microvm, q35

    /// How many virtio-mmio transports a microvm with ACPI has.
    static let microvmSlots = 24
    /// How many slots of q35's root bus are left to us.
    static let q35Slots = 28

    static func resolve(_ spec: MachineSpec) throws(MachineError) -> QEMUBoard {
        let needed = deviceCount(spec)
        switch spec.kind {
        case .auto where spec.growth != nil, .q35:
            if needed > q35Slots { throw tooMany(needed, q35Slots) }
            return .q35
        case .microvm where spec.growth != nil:
            // It has no room in its address space: a virtio-mem there has the address 0 (docs/adr/003).
            throw MachineError(.unsupported, "the machine of a microvm cannot grow: choose q35, or auto")
        case .pv, .pvh, .hvm:
            throw MachineError(
                .unsupported, "QEMU has no board \(spec.kind.rawValue), which is one of Xen's: choose microvm, q35 or auto")
        case .auto, .microvm:
            if needed > microvmSlots { throw tooMany(needed, microvmSlots) }
            return .microvm
        }
    }

    private static func tooMany(_ needed: Int, _ slots: Int) -> MachineError {
        MachineError(
            .unsupported, "a machine with \(needed) devices cannot be made (at most \(slots)): use fewer disks or networks")
    }

    /// Transports that a spec needs: the agent's port, disks, NICs, the share, what gives and takes memory.
    static func deviceCount(_ spec: MachineSpec) -> Int {
        1 + spec.disks.count + spec.nics.count + (spec.share == nil ? 0 : 1) + (spec.growth == nil ? 0 : 2)
    }

    /// A device of the board's bus: `virtio-blk-device` or `virtio-blk-pci`; vhost-user-fs and others alike.
    func device(_ name: String) -> String { self == .microvm ? "\(name)-device" : "\(name)-pci" }

    /// The modules that bring the board's virtio devices up.
    var busModule: String { self == .microvm ? "virtio_mmio" : "virtio_pci" }
}

extension GuestLayout {
    /// How a machine of `spec` looks from inside. The order of disks on the command line is the order of `/dev/vd*`: both buses
    /// are walked in order, and virtio_blk names disks as it meets them (a test boots each board and compares the serials).
    init(_ spec: MachineSpec, on board: QEMUBoard) throws(MachineError) {
        var disks: [String: GuestDisk] = [:]
        for (index, disk) in spec.disks.enumerated() {
            guard (1...20).contains(disk.name.utf8.count), disk.name.utf8.allSatisfy(Self.isPlain), disks[disk.name] == nil else {
                throw MachineError(
                    .unsupported, "a disk cannot be named '\(disk.name)': at most 20 letters, digits, - and _, each name once")
            }
            guard index < 26 else { throw MachineError(.unsupported, "a machine has at most 26 disks") }
            let letter = Character(Unicode.Scalar(UInt8(ascii: "a") + UInt8(index)))
            disks[disk.name] = GuestDisk(path: "/dev/vd\(letter)", serial: disk.name)
        }
        if let share = spec.share {
            guard (1...36).contains(share.tag.utf8.count), share.tag.utf8.allSatisfy(Self.isPlain) else {
                throw MachineError(.unsupported, "a share cannot be tagged '\(share.tag)': at most 36 letters, digits, - and _")
            }
        }
        var modules = [board.busModule, "virtio_console"]
        if !spec.disks.isEmpty { modules.append("virtio_blk") }
        if spec.share != nil { modules.append("virtiofs") }
        if !spec.nics.isEmpty { modules.append("virtio_net") }
        self.init(
            disks: disks, share: spec.share.map { GuestShare(tag: $0.tag, carrier: .virtiofs) }, nics: spec.nics.map(\.mac),
            modules: modules, agentStream: .virtioPort(name: QEMUArguments.agentPort), kernelArguments: [])
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}
