import LinuxSystem
import Machines

/// Which devices a domain has. Pure.
struct DomainDevices: Hashable, Sendable {
    /// The place of each disk, by name: 0 is `xvda`.
    var disks: [String: Int] = [:]
    /// The number of each NIC, by MAC address.
    var nics: [String: Int] = [:]

    init() {}

    /// The first place from `first` on where there is no disk.
    func freePlace(from first: Int) -> Int? { (first..<26).first { !disks.values.contains($0) } }

    /// Where the guest sees a disk.
    func path(of name: String) -> String? { disks[name].map { "/dev/\(GuestLayout.xenDisk($0))" } }

    private static let fact = "disks"

    /// What is to be known of a domain that waits: it has no NICs.
    var facts: [String: String] {
        [Self.fact: disks.sorted { $0.value < $1.value }.map { "\($0.value)=\($0.key)" }.joined(separator: " ")]
    }

    /// The same, read; nil where it makes no sense.
    init?(facts: [String: String]) {
        guard let text = facts[Self.fact] else { return nil }
        for word in text.split(separator: " ") {
            let parts = word.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, let place = Int(parts[0]), (0..<26).contains(place) else { return nil }
            disks[String(parts[1])] = place
        }
    }
}

extension Domain: Plugging {
    /// How long a guest may take to see a device, or to let go of one. An emulated one takes seconds.
    private static let patience = Duration.seconds(60)

    func plug(_ disk: Disk) async throws -> GuestDisk {
        guard devices.disks[disk.name] == nil else {
            throw MachineError(.unsupported, "the machine has a disk '\(disk.name)' already")
        }
        let place = try await attach(disk)
        try await awaitGuest("vbd", HostDisk.virtualNumber(place))
        return GuestDisk(path: "/dev/\(GuestLayout.xenDisk(place))")
    }

    func unplug(disk name: String) async throws {
        guard let place = devices.disks[name] else { return }
        try await toolstack.detachDisk(GuestLayout.xenDisk(place), from: id)
        devices.disks[name] = nil
        held[name] = nil
    }

    func plug(_ nic: NIC) async throws {
        try await attach(nic)
        if let number = devices.nics[nic.mac] { try await awaitGuest("vif", number) }
    }

    func unplug(nic mac: String) async throws {
        guard let number = devices.nics[mac] else { return }
        try await toolstack.detachNIC(number, from: id)
        devices.nics[mac] = nil
    }

    /// Has xl add a disk, and connects it.
    @discardableResult
    func attach(_ disk: Disk) async throws -> Int {
        guard let place = devices.freePlace(from: plan.kind.firstPlace) else {
            throw MachineError(.unsupported, "a machine has at most \(26 - plan.kind.firstPlace) disks")
        }
        let device = try HostDisk(disk)
        let words = DomainConfiguration.BlockDevice(name: GuestLayout.xenDisk(place), path: device.path, readOnly: disk.readOnly)
            .words
        devices.disks[disk.name] = place
        held[disk.name] = device
        try await toolstack.attachDisk(words, to: id)
        try await connect(device, as: place)
        return place
    }

    /// Has xl add a NIC, and connects it.
    func attach(_ nic: NIC) async throws {
        let before = Set(try await store.list("/local/domain/0/backend/vif/\(id)"))
        try await toolstack.attachNIC(DomainConfiguration.words(nic: nic.mac, plan.kind), to: id)
        let more = Set(try await store.list("/local/domain/0/backend/vif/\(id)")).subtracting(before).compactMap { Int($0) }
        guard more.count == 1 else { throw MachineError(.refused, "xl added a NIC, and its backend is not there") }
        devices.nics[nic.mac] = more[0]
        try await connect(nic, as: more[0])
    }

    /// What Xen's hotplug scripts would tell the backends.
    func connect(_ disk: HostDisk, as place: Int) async throws {
        try await connect("vbd", HostDisk.virtualNumber(place), ["physical-device": disk.number])
    }

    func connect(_ nic: NIC, as number: Int) async throws {
        if case .interface(let plug) = nic.end { try await plug("vif\(id).\(number)") }
        try await connect("vif", number, [:])
    }

    private func connect(_ kind: String, _ device: Int, _ values: [String: String]) async throws {
        let backend = "/local/domain/0/backend/\(kind)/\(id)/\(device)"
        for (name, value) in values { try await store.write("\(backend)/\(name)", value) }
        try await store.write("\(backend)/hotplug-status", "connected")
    }

    /// Waits until the guest has all its devices.
    func awaitGuest() async throws {
        for place in devices.disks.values { try await awaitGuest("vbd", HostDisk.virtualNumber(place)) }
        for number in devices.nics.values { try await awaitGuest("vif", number) }
    }

    /// XenbusStateConnected (xen/include/public/io/xenbus.h) is what the guest's driver says when the device can be used.
    private func awaitGuest(_ kind: String, _ device: Int) async throws {
        let path = "/local/domain/\(id)/device/\(kind)/\(device)/state"
        _ = try await store.value(
            at: path, awaiting: "the guest's driver for its device \(kind) \(device)", within: Self.patience
        ) {
            $0 == "4"
        }
    }
}

extension Domain: Parking {
    func park() async throws -> ParkedMachine {
        for mac in devices.nics.keys { try await unplug(nic: mac) }
        let stays = Set(fixedDisks)
        for name in devices.disks.keys where !stays.contains(name) { try await unplug(disk: name) }
        try await pause()
        let parked = ParkedMachine(id: origin, facts: devices.facts)
        await leave()
        return parked
    }
}
