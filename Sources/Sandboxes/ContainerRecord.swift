public import HostNetwork

/// What a container is: everything the user asked for and the image says, resolved once, at create. It never changes
/// afterwards; what happens to the container is in `ContainerState`.
public struct ContainerRecord: Codable, Sendable {
    /// The version of this format.
    public static let version = 1
    public var version = ContainerRecord.version
    /// 64 hexadecimal digits.
    public var id: String
    public var name: String
    /// Nanoseconds since 1970.
    public var created: Int64
    public var root: Root
    public var process: ProcessSettings
    public var hostname: String
    public var mounts: [Mount] = []
    public var readOnlyRoot = false
    public var network = NetworkSettings()
    public var resources = Resources()
    public var machine = MachineSettings()
    public var privileged = false
    public var sysctls: [String: String] = [:]
    public var stopSignal = "TERM"
    /// Seconds that `stop` waits before it kills.
    public var stopTimeout = 10
    public var labels: [String: String] = [:]
    public var autoRemove = false
    /// The snapshot, or the container, that it was made of while that ran.
    public var origin: String?
    /// The pool in which its machine waits for a container; nil once it is one.
    public var pool: String?
    /// Whose it is, where a container engine made it (`hull-runtime`).
    public var engine: EngineOwner?

    /// Where the root filesystem comes from.
    public enum Root: Codable, Hashable, Sendable {
        /// An image: the reference as the user gave it, the image's id, and its EROFS file.
        case image(reference: String, id: String, file: String)
        /// A folder of the host, shown as it is: writes go to it.
        case folder(String)

        /// What `ps` shows in its IMAGE column.
        public var displayName: String {
            switch self {
            case .image(let reference, _, _): reference
            case .folder(let path): "rootfs:\(path)"
            }
        }
    }

    /// The first process, and what `exec` takes over from it.
    public struct ProcessSettings: Codable, Hashable, Sendable {
        public var arguments: [String]
        public var environment: [String] = []
        /// Empty means `/`.
        public var directory = "/"
        /// `name|uid[:group|gid]`, resolved in the guest by the image's own files; empty means root.
        public var user = ""
        public var groups: [String] = []
        public var terminal = false
        /// Standard input stays open (`-i`).
        public var input = false
        /// Capability names without CAP_, in upper case.
        public var capabilities: [String] = []
        public var limits: [Limit] = []
        public var noNewPrivileges = false
        /// Loads Hull's default seccomp profile.
        public var seccomp = true
        public var initWrapper = false
        public var oomScoreAdjustment: Int32?

        public init(arguments: [String]) { self.arguments = arguments }
    }

    /// A resource limit by its name in lower case, e.g. `nofile`.
    public struct Limit: Codable, Hashable, Sendable {
        public var name: String
        public var soft: UInt64
        public var hard: UInt64
        public init(name: String, soft: UInt64, hard: UInt64) {
            self.name = name
            self.soft = soft
            self.hard = hard
        }
    }

    /// Something mounted into the container.
    public struct Mount: Codable, Hashable, Sendable {
        public enum Source: Codable, Hashable, Sendable {
            /// A folder or a file of the host.
            case bind(String)
            /// A named volume, or an anonymous one that goes with the container.
            case volume(name: String, anonymous: Bool)
            /// Memory of the guest; bytes, or nil for half of it.
            case tmpfs(size: UInt64?, mode: UInt32?)
        }
        public var source: Source
        public var destination: String
        public var readOnly = false
        /// An empty volume gets what the image has at the destination.
        public var copy = false
        /// Further mount options, e.g. `noexec`.
        public var options: [String] = []

        public init(source: Source, destination: String) {
            self.source = source
            self.destination = destination
        }
    }

    public struct NetworkSettings: Codable, Hashable, Sendable {
        public enum Mode: String, Codable, Sendable {
            case none, bridge
        }
        public var mode = Mode.bridge
        public var ports: [PortRequest] = []
        /// Nameservers instead of the host's.
        public var dns: [String] = []
        public var dnsSearch: [String] = []
        public var dnsOptions: [String] = []
        /// `name:address` lines for /etc/hosts.
        public var extraHosts: [String] = []
        public init() {}
    }

    public struct Resources: Codable, Hashable, Sendable {
        /// Bytes for the container; nil means the machine's default, without a limit in the guest.
        public var memory: UInt64?
        public var cpus: Double?
        public var pids: Int?
        /// Bytes of /dev/shm.
        public var shm: UInt64 = 64 << 20
        public init() {}
    }

    /// The machine's own settings.
    public struct MachineSettings: Codable, Hashable, Sendable {
        public var hypervisor = "qemu"
        public var machine: String?
        public var kernel: String?
        public var kernelArguments: String?
        public var accelerator: String?
        /// Disks that an annotation asks for.
        public var disks: [DiskAnnotation]?
        /// Always boots, and leaves no template.
        public var withoutTemplate: Bool?
        /// The machine stays for the next container of that tenant's.
        public var resident: Resident?
        public init() {}
    }

    /// Who keeps a machine for the next container.
    public struct Resident: Codable, Hashable, Sendable {
        /// The tenant: nobody else's container ever runs in the machine.
        public var name: String
        /// Seconds that it waits for the next container.
        public var idle: Int

        public init(name: String, idle: Int) {
            self.name = name
            self.idle = idle
        }
    }

    public init(id: String, name: String, created: Int64, root: Root, process: ProcessSettings) {
        self.id = id
        self.name = name
        self.created = created
        self.root = root
        self.process = process
        self.hostname = String(id.prefix(12))
    }
}
