/// How a machine looks from inside. Known before it is started (`Hypervisor.layout(of:)`), so that nobody guesses
/// `/dev/vdb` from an order and the initramfs carries the right modules.
public struct GuestLayout: Sendable, Hashable {
    /// The device of each disk, by `Disk.name`.
    public var disks: [String: GuestDisk]
    /// How to mount the share, if there is one.
    public var share: GuestShare?
    /// The MAC address of each NIC, in the order of the spec.
    public var nics: [String]
    /// The modules the guest needs before the agent's stream, the disks, the share and the NICs are there, by their
    /// modules.dep names with `_` (`virtio_mmio`); without what they depend on. One that is built into the kernel counts as there.
    public var modules: [String]
    /// Where the agent's stream is in the guest.
    public var agentStream: AgentStream
    /// What the machine needs on the kernel's command line; the driver puts it there itself.
    public var kernelArguments: [String]

    public init(
        disks: [String: GuestDisk], share: GuestShare?, nics: [String], modules: [String],
        agentStream: AgentStream, kernelArguments: [String]
    ) {
        self.disks = disks
        self.share = share
        self.nics = nics
        self.modules = modules
        self.agentStream = agentStream
        self.kernelArguments = kernelArguments
    }
}

/// A disk as the guest sees it.
public struct GuestDisk: Sendable, Hashable {
    /// E.g. `/dev/vda`.
    public var path: String
    /// What /sys/block/NAME/serial says, for drivers that can set it: the disk's name.
    public var serial: String?

    public init(path: String, serial: String? = nil) {
        self.path = path
        self.serial = serial
    }
}

/// A share as the guest mounts it.
public struct GuestShare: Sendable, Hashable {
    /// mount(2)'s source.
    public var tag: String
    /// What brings its files.
    public var carrier: Carrier

    public init(tag: String, carrier: Carrier) {
        self.tag = tag
        self.carrier = carrier
    }

    /// How the guest asks for files.
    public enum Carrier: Sendable, Hashable {
        /// A device of the machine's.
        case virtiofs
        /// The agent, which carries the requests of FUSE through memory that is shared with the host (docs/adr/026).
        case relay
    }
}

/// What carries the agent's stream, as the guest finds it.
public enum AgentStream: Sendable, Hashable {
    /// A virtio console port: the `/dev/vportNpM` whose `/sys/class/virtio-ports/*/name` is this.
    case virtioPort(name: String)
    /// Memory that the guest shares with the host, and events (AgentProtocol's `SharedStream`): the guest makes it as soon as the drivers for
    /// that are there, and tells the host where it is.
    case sharedMemory
}
