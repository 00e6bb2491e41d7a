/// The first request of an epoch.
public struct Hello: WireMessage, Equatable, Sendable {
    /// The protocol version of this source.
    public static let version: UInt32 = 1

    /// The oldest version that the host speaks.
    public var oldest = Hello.version
    /// The newest version that the host speaks.
    public var newest = Hello.version
    /// Whether containers that `quiesce` stood still stay so, until `setIdentity` was carried out: a restored machine runs nothing before.
    public var keepsStill = false

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        // Never changed: every version must be able to read these.
        try coder.field(1, &oldest, default: 1)
        try coder.field(2, &newest, default: 1)
        try coder.field(3, &keepsStill)
    }
}

/// A process stream position that survives epochs.
public struct ProcessState: WireMessage, Equatable, Sendable {
    /// The process.
    public var process: UInt64 = 0
    /// Its container.
    public var container = ""
    /// Its pid in the guest.
    public var pid: UInt32 = 0
    /// How many bytes of standard output the agent sent.
    public var output: UInt64 = 0
    /// How many bytes of standard error the agent sent.
    public var error: UInt64 = 0
    /// How many bytes of standard input the agent received.
    public var input: UInt64 = 0
    /// Bit 0: output ended; bit 1: error ended; bit 2: input ended.
    public var ended: UInt32 = 0
    /// Whether it is an exec.
    public var isExec = false
    /// Whether it is a relay of the agent's own, which an epoch of another monitor has no use for.
    public var isRelay = false

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &process)
        try coder.field(2, &container)
        try coder.field(3, &pid)
        try coder.field(4, &output)
        try coder.field(5, &error)
        try coder.field(6, &input)
        try coder.field(7, &ended)
        try coder.field(8, &isExec)
        try coder.field(9, &isRelay)
    }
}

/// The answer to `hello` and to `quiesce`: what runs, and where its streams are.
public struct AgentState: WireMessage, Equatable, Sendable {
    /// The version both ends speak from now on.
    public var version: UInt32 = 0
    /// The guest kernel's release.
    public var kernel = ""
    /// Whether `configureSandbox` was done.
    public var isConfigured = false
    /// Every process whose exit was not yet reported.
    public var processes: [ProcessState] = []
    /// The guest's boot-to-now time in nanoseconds (CLOCK_BOOTTIME).
    public var uptime: UInt64 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &version)
        try coder.field(2, &kernel)
        try coder.field(3, &isConfigured)
        try coder.list(4, &processes)
        try coder.field(5, &uptime)
    }
}

/// A network interface, found by its MAC address.
public struct InterfaceConfiguration: WireMessage, Equatable, Sendable {
    /// Six bytes.
    public var mac: [UInt8] = []
    /// The name it gets.
    public var name = ""
    /// In bytes; 0 leaves it.
    public var mtu: UInt32 = 0
    /// Addresses as `ADDRESS/PREFIX`, IPv4 and IPv6.
    public var addresses: [String] = []
    /// The name under which it is out of sight: it is taken from there (`Identity.interfaces`), or put there (`Identity.put`).
    public var spare = ""
    /// Addresses that it had and is to lose, and with them every TCP connection from them.
    public var dropped: [String] = []

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &mac)
        try coder.field(2, &name)
        try coder.field(3, &mtu)
        try coder.strings(4, &addresses)
        try coder.field(5, &spare)
        try coder.strings(6, &dropped)
    }
}

/// A route.
public struct RouteConfiguration: WireMessage, Equatable, Sendable {
    /// `ADDRESS/PREFIX`; empty means everything, of the gateway's family.
    public var destination = ""
    /// The next hop, empty for none.
    public var gateway = ""
    /// The interface's name.
    public var device = ""
    /// Whether it is to be taken away.
    public var isGone = false

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &destination)
        try coder.field(2, &gateway)
        try coder.field(3, &device)
        try coder.field(4, &isGone)
    }
}

/// What a container is called, which a fork changes while it runs. Empty fields change nothing.
public struct ContainerIdentity: WireMessage, Equatable, Sendable {
    /// The agent's name for it, which stays.
    public var container = ""
    /// Its host name.
    public var hostname = ""
    /// New content for files that came with it (`ContainerConfiguration.files`), by their paths.
    public var files: [FileConfiguration] = []

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &container)
        try coder.field(2, &hostname)
        try coder.list(3, &files)
    }
}

/// What makes this machine this machine; set at boot and again after a clone. Empty fields change nothing.
public struct Identity: WireMessage, Equatable, Sendable {
    /// The host name of the guest itself.
    public var hostname = ""
    /// The content of the machine-id shown to containers: 32 hexadecimal digits.
    public var machineID = ""
    /// Entropy, credited in full, after which the kernel's generator is reseeded.
    public var entropy: [UInt8] = []
    /// The wall clock in nanoseconds since 1970, 0 to leave it.
    public var realtime: UInt64 = 0
    /// The interfaces.
    public var interfaces: [InterfaceConfiguration] = []
    /// The routes, set after the interfaces.
    public var routes: [RouteConfiguration] = []
    /// Interfaces that no container is to see, found by MAC address or name, and put away before the others are set up.
    public var put: [InterfaceConfiguration] = []
    /// Containers that are called something else from now on.
    public var containers: [ContainerIdentity] = []

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &hostname)
        try coder.field(2, &machineID)
        try coder.field(3, &entropy)
        try coder.field(4, &realtime)
        try coder.list(5, &interfaces)
        try coder.list(6, &routes)
        try coder.list(7, &put)
        try coder.list(8, &containers)
    }
}

/// A disk and the file system on it.
public struct DiskConfiguration: WireMessage, Equatable, Sendable {
    /// A device path of the guest (`/dev/vda`), or `serial:NAME` for the virtio disk with this serial.
    public var device = ""
    /// `erofs`, `ext4`.
    public var type = ""

    public init() {}

    /// A disk.
    public init(device: String, type: String) {
        self.device = device
        self.type = type
    }

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &device)
        try coder.field(2, &type)
    }
}

/// What the sandbox gets once after its boot.
public struct SandboxConfiguration: WireMessage, Equatable, Sendable {
    /// Name, clock, entropy, network.
    public var identity = Identity()
    /// The disk with the kernel's module tree, mounted at `/lib/modules/RELEASE`.
    public var modules: DiskConfiguration?
    /// The tag of the share, empty for none.
    public var share = ""
    /// Whether its files are asked for through memory that is shared with the host, instead of virtiofs.
    public var shareIsRelayed = false
    /// Kernel settings of the whole guest.
    public var sysctls: [Setting] = []
    /// Writable disks that are mounted at once, for containers to come.
    public var disks: [DiskConfiguration] = []
    /// Whether a child is to be prepared that can become the first container's first process: a template has one.
    public var prepares = false

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.message(1, &identity)
        try coder.optional(2, &modules)
        try coder.field(3, &share)
        try coder.list(4, &sysctls)
        try coder.list(5, &disks)
        try coder.field(6, &prepares)
        try coder.field(7, &shareIsRelayed)
    }
}

/// Moves the guest's clock. Every field at its default changes nothing.
public struct ClockCommand: WireMessage, Equatable, Sendable {
    /// Added to the wall clock at once, in nanoseconds.
    public var step: Int64 = 0
    /// Microseconds of wall clock a tick (adjtimex; nominally 10,000), 0 to leave it.
    public var tick: UInt32 = 0
    /// Fine rate in parts per million × 65,536 (adjtimex); set together with `tick`.
    public var frequency: Int64 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &step)
        try coder.field(2, &tick)
        try coder.field(3, &frequency)
    }
}

/// The answer to `ping`: the guest's clocks when it read the request.
public struct ClockReading: WireMessage, Equatable, Sendable {
    /// CLOCK_REALTIME, nanoseconds.
    public var realtime: UInt64 = 0
    /// CLOCK_MONOTONIC_RAW, nanoseconds: the undisciplined clock.
    public var raw: UInt64 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &realtime)
        try coder.field(2, &raw)
    }
}

/// How the machine ends.
public enum ShutdownMode: UInt64, Sendable {
    /// Stop every process, sync, unmount, reboot or power off.
    case clean = 0
    /// Sync the writable disks and leave at once.
    case fast = 1
}

/// Ends the machine; the answer is the last thing it says.
public struct ShutdownRequest: WireMessage, Equatable, Sendable {
    /// How.
    public var mode = ShutdownMode.clean
    /// Reboot instead of powering off (which ends QEMU with `-no-reboot`; a power-off leaves a microvm halted).
    public var reboot = true

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &mode)
        var powerOff = !reboot
        try coder.field(2, &powerOff)
        reboot = !powerOff
    }
}

/// What the machine is to compute with.
public struct MachineSize: WireMessage, Equatable, Sendable {
    /// Processors in use, of those that the machine has; 0 leaves them.
    public var processors: UInt32 = 0
    /// Modules to load first, by name.
    public var modules: [String] = []

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &processors)
        try coder.strings(2, &modules)
    }
}
