public import LinuxSystem

/// Devices of a running machine that come and go.
@Loop
public protocol Plugging: AnyObject, Sendable {
    /// Gives it a disk under a name that none of its disks has; returns where the guest sees it, which it does then.
    func plug(_ disk: Disk) async throws -> GuestDisk
    /// Takes the disk of this name away. Whoever asks has seen to it that the guest does not use it: what it was about to write is lost
    /// where it does.
    func unplug(disk name: String) async throws
    /// Gives it a NIC, which the guest finds by its MAC address then.
    func plug(_ nic: NIC) async throws
    /// Takes the NIC with this MAC address away.
    func unplug(nic mac: String) async throws
}

/// A machine that is no process of its monitor's, and so can be left to the next one.
@Loop
public protocol Parking: AnyObject, Sendable {
    /// Takes away the devices that others will not have (all NICs, and disks that are not `isFixed`), stands the machine still, and lets go of it: it
    /// is nobody's then, and the stream to its agent has ended. Where this throws it is still the caller's.
    func park() async throws -> ParkedMachine
}

/// A machine that stands still until somebody goes on with it (`MachineSource.parked`) or takes it away (`Reclaiming`).
public struct ParkedMachine: Codable, Hashable, Sendable {
    /// The id of the spec that it was made from.
    public var id: String
    /// What the driver noted, for itself.
    public var facts: [String: String]

    public init(id: String, facts: [String: String]) {
        self.id = id
        self.facts = facts
    }
}
