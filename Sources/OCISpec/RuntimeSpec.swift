/// A bundle's `config.json` (OCI runtime-spec, config.md and config-linux.md), as far as Hull acts on it. What is absent stays nil, as
/// engines leave out what they do not want.
public struct RuntimeSpec: Codable, Hashable, Sendable {
    public var ociVersion: String
    public var process: ProcessSpec?
    public var root: Root?
    public var hostname: String?
    public var domainname: String?
    public var mounts: [MountSpec]?
    public var hooks: Hooks?
    public var annotations: [String: String]?
    public var linux: Linux?

    /// The root filesystem; `path` may be relative to the bundle.
    public struct Root: Codable, Hashable, Sendable {
        public var path: String
        public var readonly: Bool?
    }

    /// config.md, "Mounts".
    public struct MountSpec: Codable, Hashable, Sendable {
        public var destination: String
        public var type: String?
        public var source: String?
        public var options: [String]?
        public var uidMappings: [IDMapping]?
        public var gidMappings: [IDMapping]?
    }

    public struct IDMapping: Codable, Hashable, Sendable {
        public var containerID: UInt32
        public var hostID: UInt32
        public var size: UInt32
    }

    /// config.md, "POSIX-platform Hooks".
    public struct Hooks: Codable, Hashable, Sendable {
        public var prestart: [Hook]?
        public var createRuntime: [Hook]?
        public var createContainer: [Hook]?
        public var startContainer: [Hook]?
        public var poststart: [Hook]?
        public var poststop: [Hook]?
    }

    public struct Hook: Codable, Hashable, Sendable {
        public var path: String
        public var args: [String]?
        public var env: [String]?
        /// Seconds.
        public var timeout: Int?
    }

    /// config-linux.md.
    public struct Linux: Codable, Hashable, Sendable {
        public var namespaces: [Namespace]?
        public var uidMappings: [IDMapping]?
        public var gidMappings: [IDMapping]?
        public var devices: [Device]?
        public var cgroupsPath: String?
        public var resources: ResourceLimits?
        public var sysctl: [String: String]?
        public var seccomp: SeccompProfile?
        public var rootfsPropagation: String?
        public var maskedPaths: [String]?
        public var readonlyPaths: [String]?
        public var mountLabel: String?
        public var personality: Personality?
    }

    /// config-linux.md, "Personality".
    public struct Personality: Codable, Hashable, Sendable {
        /// `LINUX` or `LINUX32`.
        public var domain: String
        public var flags: [String]?
    }

    public struct Namespace: Codable, Hashable, Sendable {
        /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup`, `time`.
        public var type: String
        public var path: String?
    }

    public struct Device: Codable, Hashable, Sendable {
        /// `c`, `b`, `u` or `p`.
        public var type: String
        public var path: String
        public var major: Int64?
        public var minor: Int64?
        public var fileMode: UInt32?
        public var uid: UInt32?
        public var gid: UInt32?
    }
}

/// `process` of a config.json, and the whole of an exec's process.json.
public struct ProcessSpec: Codable, Hashable, Sendable {
    public var terminal: Bool?
    public var consoleSize: ConsoleSize?
    public var user: User?
    public var args: [String]?
    public var env: [String]?
    public var cwd: String?
    public var capabilities: CapabilityNames?
    public var rlimits: [Limit]?
    public var noNewPrivileges: Bool?
    public var oomScoreAdj: Int32?
    public var apparmorProfile: String?
    public var selinuxLabel: String?
    public var scheduler: Scheduler?
    public var ioPriority: IOPriority?

    public init(args: [String]) { self.args = args }

    public struct ConsoleSize: Codable, Hashable, Sendable {
        public var height: UInt16
        public var width: UInt16
    }

    public struct User: Codable, Hashable, Sendable {
        public var uid: UInt32
        public var gid: UInt32
        public var umask: UInt32?
        public var additionalGids: [UInt32]?
        public init(uid: UInt32, gid: UInt32) {
            self.uid = uid
            self.gid = gid
        }
    }

    /// config.md, "scheduler": sched_setattr(2).
    public struct Scheduler: Codable, Hashable, Sendable {
        /// `SCHED_OTHER` …
        public var policy: String
        public var nice: Int32?
        public var priority: Int32?
        /// `SCHED_FLAG_RESET_ON_FORK` …
        public var flags: [String]?
        /// Nanoseconds, as the next two.
        public var runtime: UInt64?
        public var deadline: UInt64?
        public var period: UInt64?
    }

    /// config.md, "ioPriority": ioprio_set(2).
    public struct IOPriority: Codable, Hashable, Sendable {
        /// `IOPRIO_CLASS_RT` …
        public var `class`: String
        public var priority: Int32?
    }

    /// Names with `CAP_`.
    public struct CapabilityNames: Codable, Hashable, Sendable {
        public var bounding: [String]?
        public var effective: [String]?
        public var inheritable: [String]?
        public var permitted: [String]?
        public var ambient: [String]?
        public init() {}
    }

    public struct Limit: Codable, Hashable, Sendable {
        /// `RLIMIT_NOFILE` …
        public var type: String
        public var hard: UInt64
        public var soft: UInt64
    }
}

/// config-linux.md, "Control groups": what bounds a container. Also what `update --resources` takes.
public struct ResourceLimits: Codable, Hashable, Sendable {
    public var memory: Memory?
    public var cpu: CPU?
    public var pids: Pids?
    public var blockIO: BlockIO?
    public var unified: [String: String]?
    /// What of devices may be used: a later rule wins.
    public var devices: [DeviceRule]?

    public init() {}

    /// config-linux.md, "Allowed Device list".
    public struct DeviceRule: Codable, Hashable, Sendable {
        public var allow: Bool
        /// `c`, `b`, or `a` and absent for both.
        public var type: String?
        /// Absent and -1 for all.
        public var major: Int64?
        public var minor: Int64?
        /// Of `r`, `w` and `m`; absent for all.
        public var access: String?

        public init(allow: Bool, type: String? = nil, major: Int64? = nil, minor: Int64? = nil, access: String? = nil) {
            self.allow = allow
            self.type = type
            self.major = major
            self.minor = minor
            self.access = access
        }
    }

    /// Bytes; -1 means no limit.
    public struct Memory: Codable, Hashable, Sendable {
        public var limit: Int64?
        public var reservation: Int64?
        public var swap: Int64?
        public var disableOOMKiller: Bool?
        public init() {}
    }

    public struct CPU: Codable, Hashable, Sendable {
        public var shares: UInt64?
        public var quota: Int64?
        public var period: UInt64?
        public var cpus: String?
        public var mems: String?
        public var realtimeRuntime: Int64?
        public var realtimePeriod: UInt64?
        /// 1: runs only when nobody else wants to.
        public var idle: Int64?
        /// Microseconds of quota that may be saved up.
        public var burst: UInt64?
        public init() {}
    }

    /// Of devices of the host.
    public struct BlockIO: Codable, Hashable, Sendable {
        /// 10 to 1000.
        public var weight: UInt16?
        public var weightDevice: [DeviceWeight]?
        public var throttleReadBpsDevice: [DeviceRate]?
        public var throttleWriteBpsDevice: [DeviceRate]?
        public var throttleReadIOPSDevice: [DeviceRate]?
        public var throttleWriteIOPSDevice: [DeviceRate]?
        public init() {}

        public struct DeviceWeight: Codable, Hashable, Sendable {
            public var major: Int64
            public var minor: Int64
            public var weight: UInt16?
        }

        /// Bytes or operations in a second.
        public struct DeviceRate: Codable, Hashable, Sendable {
            public var major: Int64
            public var minor: Int64
            public var rate: UInt64
        }
    }

    public struct Pids: Codable, Hashable, Sendable {
        public var limit: Int64
        public init(limit: Int64) { self.limit = limit }
    }
}

/// config-linux.md, "Seccomp".
public struct SeccompProfile: Codable, Hashable, Sendable {
    public var defaultAction: String
    public var defaultErrnoRet: UInt32?
    public var architectures: [String]?
    public var flags: [String]?
    public var syscalls: [Rule]?

    public struct Rule: Codable, Hashable, Sendable {
        public var names: [String]
        public var action: String
        public var errnoRet: UInt32?
        public var args: [Condition]?
    }

    public struct Condition: Codable, Hashable, Sendable {
        public var index: UInt32
        public var value: UInt64
        public var valueTwo: UInt64?
        public var op: String
    }
}

/// runtime.md, "State", with what runc adds to it.
public struct RuntimeState: Codable, Hashable, Sendable {
    public var ociVersion: String
    public var id: String
    /// `creating`, `created`, `running`, `paused` (runc's) or `stopped`.
    public var status: String
    /// 0 once it is stopped.
    public var pid: Int32
    public var bundle: String
    public var annotations: [String: String]?

    public init(ociVersion: String, id: String, status: String, pid: Int32, bundle: String, annotations: [String: String]?) {
        self.ociVersion = ociVersion
        self.id = id
        self.status = status
        self.pid = pid
        self.bundle = bundle
        self.annotations = annotations
    }
}

extension RuntimeSpec {
    /// Reads a config.json.
    public init(parsing bytes: [UInt8]) throws(InvalidDocument) {
        self = try decode(RuntimeSpec.self, "config.json", bytes)
    }
}

extension ProcessSpec {
    /// Reads a process.json.
    public init(parsing bytes: [UInt8]) throws(InvalidDocument) {
        self = try decode(ProcessSpec.self, "process.json", bytes)
    }
}

extension ResourceLimits {
    /// Reads what `update --resources` gets.
    public init(parsing bytes: [UInt8]) throws(InvalidDocument) {
        self = try decode(ResourceLimits.self, "resources", bytes)
    }
}
