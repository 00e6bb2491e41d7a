/// Where a container's root comes from.
public enum RootKind: UInt64, Sendable {
    /// A read-only disk under a writable one (or under memory, when there is no writable disk).
    case overlay = 0
    /// A directory of the share.
    case share = 1
    /// A writable disk by itself.
    case disk = 2
}

/// A container's root file system.
public struct RootConfiguration: WireMessage, Equatable, Sendable {
    /// Where it comes from.
    public var kind = RootKind.overlay
    /// The image's disk (`overlay`, `disk`).
    public var lower = DiskConfiguration()
    /// The writable disk; without one, what is written is kept in memory.
    public var upper: DiskConfiguration?
    /// The directory below the share (`share`).
    public var path = ""
    /// Whether the container sees its root read-only.
    public var readOnly = false
    /// Whether what is written goes with the container (`overlay`): its removal leaves the writable disk mounted and as it was, and lets go of
    /// the image's disk for sure, or fails.
    public var isRehearsal = false

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &kind)
        try coder.message(2, &lower)
        try coder.optional(3, &upper)
        try coder.field(4, &path)
        try coder.field(5, &readOnly)
        try coder.field(6, &isRehearsal)
    }
}

/// What is mounted.
public enum MountKind: UInt64, Sendable {
    /// A directory or file of the share; `source` is the path below it.
    case share = 0
    case tmpfs = 1
    case proc = 2
    case sysfs = 3
    case devpts = 4
    case mqueue = 5
    case cgroup2 = 6
    /// A path of the container's own root, seen at another place; `source` is that path.
    case bind = 7
    /// A disk; `source` is the device, `type` the file system.
    case disk = 8
    /// The device tree of the container: a tmpfs with Docker's nodes.
    case dev = 9
    /// Any other file system of the guest's kernel; `type`, `source` and `data` as for mount(2).
    case other = 10
    /// A Unix socket at which the agent listens for the host (`socket`); `source` is its number in the container, which a
    /// relay names.
    case socket = 11
}

/// A Unix socket that stands in the guest for one of the host.
public struct SocketConfiguration: WireMessage, Equatable, Sendable {
    /// Its permissions.
    public var mode: UInt32 = 0
    public var uid: UInt32 = 0
    public var gid: UInt32 = 0
    /// SOCK_DGRAM: messages go to the host, and none comes back.
    public var isDatagram = false

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &mode)
        try coder.field(2, &uid)
        try coder.field(3, &gid)
        try coder.field(4, &isDatagram)
    }
}

/// A range of ids of a user namespace, and where they are outside of it.
public struct IDRange: WireMessage, Equatable, Sendable {
    /// The first inside.
    public var inside: UInt32 = 0
    /// The first outside.
    public var outside: UInt32 = 0
    /// How many.
    public var count: UInt32 = 0

    public init() {}

    /// A range.
    public init(inside: UInt32, outside: UInt32, count: UInt32) {
        self.inside = inside
        self.outside = outside
        self.count = count
    }

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &inside)
        try coder.field(2, &outside)
        try coder.field(3, &count)
    }
}

extension [IDRange] {
    /// What an id inside is outside; nil where it is nothing.
    public func outside(_ id: UInt32) -> UInt32? {
        for range in self where id >= range.inside && id - range.inside < range.count {
            let (sum, over) = range.outside.addingReportingOverflow(id - range.inside)
            return over ? nil : sum
        }
        return nil
    }
}

/// A mount in a container, made in the order given. Missing mount points are made.
public struct MountConfiguration: WireMessage, Equatable, Sendable {
    /// The path in the container; its links are followed within the container's root.
    public var destination = ""
    /// What is mounted.
    public var kind = MountKind.share
    /// What `kind` says.
    public var source = ""
    /// The file system (`disk`, `other`).
    public var type = ""
    /// The flags of mount(2): MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, …
    public var flags: UInt64 = 0
    /// Propagation of mount(2) (MS_PRIVATE, MS_RSHARED …), 0 for private.
    public var propagation: UInt64 = 0
    /// The data of mount(2): `size=64m,mode=1777`.
    public var data = ""
    /// Whether an empty directory is first filled with what the image has at the destination.
    public var copyUp = false
    /// Whether the source is a file, so that a missing mount point is made as one.
    public var isFile = false
    /// What `socket` needs.
    public var socket: SocketConfiguration?

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &destination)
        try coder.field(2, &kind)
        try coder.field(3, &source)
        try coder.field(4, &type)
        try coder.field(5, &flags)
        try coder.field(6, &propagation)
        try coder.field(7, &data)
        try coder.field(8, &copyUp)
        try coder.field(9, &isFile)
        try coder.optional(10, &socket)
    }
}

/// A file put over the root by a bind mount, like Docker's `/etc/hosts`; writable even where the root is not.
public struct FileConfiguration: WireMessage, Equatable, Sendable {
    /// The path in the container.
    public var path = ""
    /// What is in it.
    public var content: [UInt8] = []
    /// Its permissions.
    public var mode: UInt32 = 0o644

    public init() {}

    /// A file.
    public init(path: String, content: [UInt8], mode: UInt32 = 0o644) {
        self.path = path
        self.content = content
        self.mode = mode
    }

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &path)
        try coder.field(2, &content)
        try coder.field(3, &mode, default: 0o644)
    }
}

/// A device node.
public struct DeviceConfiguration: WireMessage, Equatable, Sendable {
    /// The path in the container.
    public var path = ""
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO` with the permissions.
    public var mode: UInt32 = 0
    public var major: UInt32 = 0
    public var minor: UInt32 = 0
    public var uid: UInt32 = 0
    public var gid: UInt32 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &path)
        try coder.field(2, &mode)
        try coder.field(3, &major)
        try coder.field(4, &minor)
        try coder.field(5, &uid)
        try coder.field(6, &gid)
    }
}

/// Limits of a container's cgroup; what is absent is not changed.
public struct ContainerLimits: WireMessage, Equatable, Sendable {
    /// memory.max, bytes; all ones for none.
    public var memory: UInt64?
    /// memory.low, bytes.
    public var memoryReservation: UInt64?
    /// memory.swap.max, bytes; all ones for none.
    public var swap: UInt64?
    /// Microseconds of CPU a period; all ones for none.
    public var cpuQuota: UInt64?
    /// The period in microseconds.
    public var cpuPeriod: UInt64?
    /// cpu.weight, 1 to 10,000.
    public var cpuWeight: UInt64?
    /// pids.max; all ones for as many as the guest can bear.
    public var pids: UInt64?
    /// cpuset.cpus, empty for all.
    public var cpus = ""
    /// Other cgroup files by name (`memory.high`, `io.weight`).
    public var unified: [Setting] = []

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.optional(1, &memory)
        try coder.optional(2, &memoryReservation)
        try coder.optional(3, &swap)
        try coder.optional(4, &cpuQuota)
        try coder.optional(5, &cpuPeriod)
        try coder.optional(6, &cpuWeight)
        try coder.optional(7, &pids)
        try coder.field(8, &cpus)
        try coder.list(9, &unified)
    }
}

/// A container, made before its first process.
public struct ContainerConfiguration: WireMessage, Equatable, Sendable {
    /// Its name for the host; letters, digits, `_.-`.
    public var id = ""
    /// The host name in its uts namespace.
    public var hostname = ""
    /// The NIS domain name in its uts namespace, empty for the kernel's.
    public var domainname = ""
    /// Its root.
    public var root = RootConfiguration()
    /// Its mounts, in order.
    public var mounts: [MountConfiguration] = []
    /// Files bound over the root, after the mounts.
    public var files: [FileConfiguration] = []
    /// Paths hidden behind nothing.
    public var maskedPaths: [String] = []
    /// Paths that become read-only.
    public var readOnlyPaths: [String] = []
    /// Device nodes beside the standard ones.
    public var devices: [DeviceConfiguration] = []
    /// Kernel settings, set by the agent in the container's namespaces.
    public var sysctls: [Setting] = []
    /// Its cgroup's limits.
    public var limits = ContainerLimits()
    /// Whether /sys, /proc/sys and the cgroups are writable and every device of the guest is in /dev.
    public var privileged = false
    /// The mount propagation of the root (MS_RPRIVATE …), 0 for private.
    public var rootPropagation: UInt64 = 0
    /// The container whose pid namespace is joined (a pod with a shared one), empty for its own.
    public var pidNamespaceOf = ""
    /// The container whose ipc namespace is joined, empty for its own.
    public var ipcNamespaceOf = ""
    /// The ids of a user namespace of its own; empty for none. Then 0 must be among them.
    public var userIDs: [IDRange] = []
    /// As `userIDs`, for groups.
    public var groupIDs: [IDRange] = []
    /// What its cgroup may do with devices: instructions of 8 bytes (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE), empty for everything.
    public var deviceProgram: [UInt8] = []

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &id)
        try coder.field(2, &hostname)
        try coder.field(3, &domainname)
        try coder.message(4, &root)
        try coder.list(5, &mounts)
        try coder.list(6, &files)
        try coder.strings(7, &maskedPaths)
        try coder.strings(8, &readOnlyPaths)
        try coder.list(9, &devices)
        try coder.list(10, &sysctls)
        try coder.message(11, &limits)
        try coder.field(12, &privileged)
        try coder.field(13, &rootPropagation)
        try coder.field(14, &pidNamespaceOf)
        try coder.field(15, &ipcNamespaceOf)
        try coder.list(16, &userIDs)
        try coder.list(17, &groupIDs)
        try coder.field(18, &deviceProgram)
    }
}

/// Names a container.
public struct ContainerReference: WireMessage, Equatable, Sendable {
    /// The container.
    public var container = ""

    public init() {}

    /// A reference.
    public init(_ container: String) { self.container = container }

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &container)
    }
}

/// Changes a container's limits.
public struct UpdateRequest: WireMessage, Equatable, Sendable {
    /// The container.
    public var container = ""
    /// What changes.
    public var limits = ContainerLimits()

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &container)
        try coder.message(2, &limits)
    }
}

/// What a container used.
public struct ContainerStatistics: WireMessage, Equatable, Sendable {
    /// memory.current, bytes.
    public var memory: UInt64 = 0
    /// memory.peak, bytes (0 where the kernel has none).
    public var memoryPeak: UInt64 = 0
    /// memory.max, bytes; all ones for none.
    public var memoryLimit: UInt64 = 0
    /// Page cache that can be given back, bytes (`inactive_file`).
    public var inactiveFile: UInt64 = 0
    /// How many processes the kernel killed for want of memory.
    public var oomKills: UInt64 = 0
    /// CPU time, microseconds.
    public var cpuUsage: UInt64 = 0
    public var cpuUser: UInt64 = 0
    public var cpuSystem: UInt64 = 0
    /// Processes now, and their limit (all ones for none).
    public var pids: UInt64 = 0
    public var pidsLimit: UInt64 = 0
    /// Bytes read from and written to disks.
    public var ioRead: UInt64 = 0
    public var ioWritten: UInt64 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &memory)
        try coder.field(2, &memoryPeak)
        try coder.field(3, &memoryLimit)
        try coder.field(4, &inactiveFile)
        try coder.field(5, &oomKills)
        try coder.field(6, &cpuUsage)
        try coder.field(7, &cpuUser)
        try coder.field(8, &cpuSystem)
        try coder.field(9, &pids)
        try coder.field(10, &pidsLimit)
        try coder.field(11, &ioRead)
        try coder.field(12, &ioWritten)
    }
}
