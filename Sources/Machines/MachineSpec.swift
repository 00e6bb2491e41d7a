public import LinuxSystem

/// What a machine is to be: plain data, from which a driver derives its configuration without asking anything else.
public struct MachineSpec: Sendable {
    /// Names the machine in logs and in the VMM's own name; unique on the host (the sandbox's id).
    public var id: String
    /// The board. `auto` takes the quickest to boot that can carry the devices.
    public var kind: Kind
    /// What runs the guest's instructions. `auto` takes hardware where it truly works.
    public var accelerator: Accelerator
    /// The guest's memory in bytes; rounded up to whole MiB.
    public var memoryBytes: UInt64
    /// The guest's CPUs, at least 1.
    public var vcpus: Int
    /// The kernel: an ELF vmlinux with a PVH note, or a bzImage (x86); see `Kernels`.
    public var kernel: String
    /// The initramfs, whose `/init` is the agent.
    public var initramfs: String
    /// Added after what the driver needs, in this order.
    public var kernelArguments: [String]
    /// Block devices. Each name is unique in the machine.
    public var disks: [Disk]
    /// The one share, under which everything of the host that is shown in the guest is bound.
    public var share: Share?
    /// Network interfaces; the guest knows them by their MAC address.
    public var nics: [NIC]
    /// What the running machine may become; nil for one that stays as it is.
    public var growth: Growth?
    /// Where the guest's console goes; made when missing, else appended to. Its size is bounded by the driver.
    public var consoleLog: String
    /// How the processes of the machine are kept apart from the host.
    public var confinement: Confinement
    /// What its device model runs in, where that is a domain of its own (`hvm`).
    public var stubdomain: Stubdomain?

    /// A machine without disks, share and NICs.
    public init(
        id: String, kind: Kind = .auto, accelerator: Accelerator = .auto, memoryBytes: UInt64,
        vcpus: Int = 1, kernel: String, initramfs: String, kernelArguments: [String] = [],
        disks: [Disk] = [], share: Share? = nil, nics: [NIC] = [], consoleLog: String,
        confinement: Confinement
    ) {
        self.id = id
        self.kind = kind
        self.accelerator = accelerator
        self.memoryBytes = memoryBytes
        self.vcpus = vcpus
        self.kernel = kernel
        self.initramfs = initramfs
        self.kernelArguments = kernelArguments
        self.disks = disks
        self.share = share
        self.nics = nics
        self.consoleLog = consoleLog
        self.confinement = confinement
    }

    /// How far a running machine can be resized (`VirtualMachine.resizing`). A driver may take boards and devices that cost a start some time
    /// for it.
    public struct Growth: Sendable, Hashable, Codable {
        /// The most bytes of memory; `memoryBytes` is what it begins with.
        public var memoryBytes: UInt64
        /// The most CPUs; `vcpus` is what it begins with.
        public var vcpus: Int

        public init(memoryBytes: UInt64, vcpus: Int) {
            self.memoryBytes = memoryBytes
            self.vcpus = vcpus
        }
    }

    /// A board, as `--machine` names it. A driver that has no such board throws.
    public enum Kind: String, Sendable, CaseIterable, Codable { case auto, microvm, q35, pv, pvh, hvm }

    /// The domain of a device model.
    public struct Stubdomain: Sendable, Hashable, Codable {
        /// Its kernel, and its ramdisk, in which the guest's kernel and initramfs are too; see `Kernels`.
        public var kernel: String
        public var ramdisk: String
        /// Its memory, in bytes.
        public var memoryBytes: UInt64

        public init(kernel: String, ramdisk: String, memoryBytes: UInt64) {
            self.kernel = kernel
            self.ramdisk = ramdisk
            self.memoryBytes = memoryBytes
        }
    }

    /// An accelerator, as `--accel` names it.
    public enum Accelerator: String, Sendable, CaseIterable, Codable { case auto, kvm, tcg }
}

/// A block device, backed by a raw file or a block device of the host.
public struct Disk: Sendable, Hashable {
    /// At most 20 bytes of letters, digits, `-` and `_`: the guest may read it as the device's serial number.
    public var name: String
    /// The file or device on the host. Opened by the driver; the VMM gets the descriptor.
    public var path: String
    public var readOnly: Bool
    /// Whether machines restored from a saved one all have this very file, so that the saved one may have read and mounted it.
    public var isFixed: Bool
    /// Whether it is as its maker left it, used by nobody yet: what a saved machine did to such a disk can be had by all that are restored
    /// from it, with a copy of the saved one's.
    public var isFresh: Bool

    public init(name: String, path: String, readOnly: Bool, isFixed: Bool = false, isFresh: Bool = false) {
        self.name = name
        self.path = path
        self.readOnly = readOnly
        self.isFixed = isFixed
        self.isFresh = isFresh
    }
}

/// A host folder shown in the guest, made of bound entries.
public struct Share: Sendable, Hashable {
    /// What the guest mounts it by; at most 36 bytes.
    public var tag: String
    public var entries: [ShareEntry]
    /// Whether nothing of it may be cached: the lengths and contents of files change by themselves, as in /proc.
    public var isVolatile: Bool { entries.contains { $0.isKernels } }
    /// Whether the running machine may be shown more (`VirtualMachine.sharing`).
    public var grows = false
    /// Whether the guest must see files of any owner the host has, not only of the sandbox's 65,536 ids.
    public var needsHostOwners = false

    public init(tag: String, entries: [ShareEntry]) {
        self.tag = tag
        self.entries = entries
    }
}

/// One folder or file of the host, bound in the share's root under `name`.
public struct ShareEntry: Sendable, Hashable {
    /// One path component, unique in the share.
    public var name: String
    /// The folder or file on the host; links are followed once, when the machine starts.
    public var hostPath: String
    /// Whether it is a single file.
    public var isFile: Bool
    /// Enforced by the host's mount, not by the guest.
    public var readOnly: Bool
    /// Whether what the host mounts below it later is to be seen too.
    public var followsHost = false

    /// Whether it is of the kernel's own filesystems (/proc, /sys, …): read-only then, and as a stranger sees it.
    public var isKernels: Bool
    /// What is mounted below a folder and is shown too, parents first. Other mounts below it are not shown.
    public var submounts: [Submount]

    public init(
        name: String, hostPath: String, isFile: Bool = false, readOnly: Bool = false, isKernels: Bool = false,
        submounts: [Submount] = []
    ) {
        self.name = name
        self.hostPath = hostPath
        self.isFile = isFile
        self.readOnly = readOnly
        self.isKernels = isKernels
        self.submounts = submounts
    }
}

/// A mount below a folder that is shared.
public struct Submount: Sendable, Hashable {
    /// Relative to the folder.
    public var path: String
    /// As `ShareEntry.isKernels`.
    public var isKernels: Bool

    public init(path: String, isKernels: Bool = false) {
        self.path = path
        self.isKernels = isKernels
    }
}

/// A network interface.
public struct NIC: Sendable {
    /// `xx:xx:xx:xx:xx:xx`, lower case.
    public var mac: String
    /// Bytes; nil leaves it to the guest.
    public var mtu: Int?
    /// The host's end.
    public var end: HostEnd

    /// A NIC of a machine whose driver wants taps (`HypervisorTraits.nicEnd`).
    public init(mac: String, mtu: Int? = nil, tap: SharedDescriptor) {
        self.init(mac: mac, mtu: mtu, end: .tap(tap))
    }

    public init(mac: String, mtu: Int? = nil, end: HostEnd) {
        self.mac = mac
        self.mtu = mtu
        self.end = end
    }

    /// What is at the host's end of a NIC.
    public enum HostEnd: Sendable {
        /// An open tap (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, header of 12 bytes).
        case tap(SharedDescriptor)
        /// The driver makes an interface, and gives its name to this before the guest runs: it is renamed then, and connected.
        case interface(@Loop @Sendable (_ name: String) async throws -> Void)
    }
}

/// What keeps a machine's processes apart from the host and from other machines.
public struct Confinement: Sendable {
    /// The first of the host user ids that belong to this sandbox alone. A share server runs in a user namespace of
    /// uidBase ..< uidBase + 65536; the VMM runs as uidBase + 65536.
    public var uidBase: UInt32
    /// Open `cgroup.procs` files (`Cgroup.entrances`); every process of the machine writes itself there first.
    public var cgroups: [SharedDescriptor]

    /// Who the VMM runs as.
    public var vmmUser: UInt32
    /// Whether we are root of a user namespace only, whose ids are all there are: filesystems map no owners for us, devices cannot be
    /// made, and our groups stay, because they may open `/dev/kvm`.
    public var isRootless = false
    /// The AppArmor profile that the VMM runs under; nil for none. It is loaded.
    public var profile: String?
    /// What SELinux knows its processes and their files as; nil for what the policy says.
    public var labels: SELinuxLabels?

    /// For root of a user namespace, in which the highest id becomes the VMM's.
    public static var rootless: Confinement {
        var all = Confinement(uidBase: 0)
        all.vmmUser = UserNamespace.highest
        all.isRootless = true
        return all
    }

    public init(uidBase: UInt32, cgroups: [SharedDescriptor] = []) {
        vmmUser = uidBase + 65536
        self.uidBase = uidBase
        self.cgroups = cgroups
    }
}
