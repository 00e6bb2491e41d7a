/// The five capability sets, a bit a capability.
public struct CapabilitySets: WireMessage, Equatable, Sendable {
    public var bounding: UInt64 = 0
    public var effective: UInt64 = 0
    public var permitted: UInt64 = 0
    public var inheritable: UInt64 = 0
    public var ambient: UInt64 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &bounding)
        try coder.field(2, &effective)
        try coder.field(3, &permitted)
        try coder.field(4, &inheritable)
        try coder.field(5, &ambient)
    }
}

/// A resource limit of a process.
public struct ResourceLimit: WireMessage, Equatable, Sendable {
    /// RLIMIT_NOFILE …, the number of the guest's architecture.
    public var resource: UInt32 = 0
    /// All ones for none.
    public var soft: UInt64 = 0
    /// All ones for none.
    public var hard: UInt64 = 0

    public init() {}

    /// A limit.
    public init(resource: UInt32, soft: UInt64, hard: UInt64) {
        self.resource = resource
        self.soft = soft
        self.hard = hard
    }

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &resource)
        try coder.field(2, &soft)
        try coder.field(3, &hard)
    }
}

/// A program to run in the container before a held process executes its own (OCI's startContainer hooks).
public struct HookConfiguration: WireMessage, Equatable, Sendable {
    public var path = ""
    /// The name first.
    public var arguments: [String] = []
    public var environment: [String] = []

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &path)
        try coder.strings(2, &arguments)
        try coder.strings(3, &environment)
    }
}

/// How a process is scheduled: the fields of `struct sched_attr` (sched_setattr(2)).
public struct SchedulerConfiguration: WireMessage, Equatable, Sendable {
    public var policy: UInt32 = 0
    public var nice: Int32 = 0
    public var priority: UInt32 = 0
    public var flags: UInt64 = 0
    /// Nanoseconds, as the next two.
    public var runtime: UInt64 = 0
    public var deadline: UInt64 = 0
    public var period: UInt64 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &policy)
        try coder.field(2, &nice)
        try coder.field(3, &priority)
        try coder.field(4, &flags)
        try coder.field(5, &runtime)
        try coder.field(6, &deadline)
        try coder.field(7, &period)
    }
}

/// A process to start.
public struct ProcessConfiguration: WireMessage, Equatable, Sendable {
    /// The host's number for it, never used twice in a machine's life; not 0.
    public var process: UInt64 = 0
    /// Its container.
    public var container = ""
    /// Whether it joins a running container; otherwise it is the container's init process.
    public var isExec = false
    /// The program and its arguments; the program is looked up in the environment's PATH.
    public var arguments: [String] = []
    /// `NAME=VALUE`.
    public var environment: [String] = []
    /// The working directory, made if missing; empty for `/`.
    public var workingDirectory = ""
    /// `NAME|UID[:GROUP|GID]` as an image has it; empty for root.
    public var user = ""
    /// Supplementary groups beside those of the image's /etc/group: names or numbers.
    public var groups: [String] = []
    /// nil keeps every capability.
    public var capabilities: CapabilitySets?
    /// Resource limits.
    public var limits: [ResourceLimit] = []
    /// Whether the process and its children can never gain privileges.
    public var noNewPrivileges = false
    /// An array of `struct sock_filter`, empty for none.
    public var seccomp: [UInt8] = []
    /// The flags of seccomp(2) for it.
    public var seccompFlags: UInt64 = 0
    /// /proc/self/oom_score_adj.
    public var oomScoreAdjust: Int32 = 0
    /// The file mode creation mask.
    public var umask: UInt32 = 0o022
    /// Whether it gets a terminal (its output and error are one stream then).
    public var terminal = false
    /// The terminal's size, 0 to leave it.
    public var rows: UInt32 = 0
    public var columns: UInt32 = 0
    /// Whether bytes for its standard input will come; without, it reads from /dev/null.
    public var wantsInput = false
    /// Whether a small init process runs it, passing signals on and reaping orphans (`--init`).
    public var initWrapper = false
    /// Credit for output and error at the start, bytes.
    public var credit: UInt64 = Limits.window
    /// Whether it stands ready, its program found and everything set, until `releaseProcess` lets it execute that.
    public var held = false
    /// Not a program: a relay of the agent's own, by its standard streams (docs/agent-protocol.md). An IPv4 loopback address: of what is
    /// asked at its port 53; it belongs to no container. `socket:N`: of the next connection to the container's Unix socket N.
    public var relay = ""
    /// Run when a held process is released, before its program.
    public var hooks: [HookConfiguration] = []
    /// What hooks read from their standard input.
    public var hookInput = ""
    /// nil for the usual one.
    public var scheduler: SchedulerConfiguration?
    /// As ioprio_set(2) has it (the class in bits 13 and up), 0 to leave it.
    public var ioPriority: UInt32 = 0
    /// As personality(2) has it; nil to leave it.
    public var personality: UInt64?

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &process)
        try coder.field(2, &container)
        try coder.field(3, &isExec)
        try coder.strings(4, &arguments)
        try coder.strings(5, &environment)
        try coder.field(6, &workingDirectory)
        try coder.field(7, &user)
        try coder.strings(8, &groups)
        try coder.optional(9, &capabilities)
        try coder.list(10, &limits)
        try coder.field(11, &noNewPrivileges)
        try coder.field(12, &seccomp)
        try coder.field(13, &seccompFlags)
        try coder.field(14, &oomScoreAdjust)
        try coder.field(15, &umask, default: 0o022)
        try coder.field(16, &terminal)
        try coder.field(17, &rows)
        try coder.field(18, &columns)
        try coder.field(19, &wantsInput)
        try coder.field(20, &initWrapper)
        try coder.field(21, &credit, default: Limits.window)
        try coder.field(22, &held)
        try coder.field(23, &relay)
        try coder.list(24, &hooks)
        try coder.field(25, &hookInput)
        try coder.optional(26, &scheduler)
        try coder.field(27, &ioPriority)
        try coder.optional(28, &personality)
    }
}

/// The answer to `startProcess`: the program runs.
public struct ProcessStarted: WireMessage, Equatable, Sendable {
    /// The pid in the guest.
    public var pid: UInt32 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &pid)
    }
}

/// Sends a signal.
public struct SignalRequest: WireMessage, Equatable, Sendable {
    /// The process; 0 means every process of `container`.
    public var process: UInt64 = 0
    /// The container, when it is for all.
    public var container = ""
    /// The signal's number.
    public var signal: UInt32 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &process)
        try coder.field(2, &container)
        try coder.field(3, &signal)
    }
}

/// Gives a terminal its size.
public struct ResizeRequest: WireMessage, Equatable, Sendable {
    public var process: UInt64 = 0
    public var rows: UInt32 = 0
    public var columns: UInt32 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &process)
        try coder.field(2, &rows)
        try coder.field(3, &columns)
    }
}

/// Names a process.
public struct ProcessReference: WireMessage, Equatable, Sendable {
    public var process: UInt64 = 0

    public init() {}

    /// A reference.
    public init(_ process: UInt64) { self.process = process }

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &process)
    }
}

/// Names an output of a process.
public struct OutputReference: WireMessage, Equatable, Sendable {
    public var process: UInt64 = 0
    /// Whether it is standard error.
    public var isError = false

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &process)
        try coder.field(2, &isError)
    }
}

/// A process that runs in a container.
public struct ProcessEntry: WireMessage, Equatable, Sendable {
    /// Its pid in the guest.
    public var pid: UInt32 = 0
    /// Its parent's.
    public var parent: UInt32 = 0
    /// Its real user id.
    public var uid: UInt32 = 0
    /// Its command line; its short name where it has none.
    public var arguments: [String] = []
    /// When it started, nanoseconds of wall clock since 1970.
    public var started: UInt64 = 0
    /// CPU time, nanoseconds.
    public var cpu: UInt64 = 0
    /// Resident memory, bytes.
    public var resident: UInt64 = 0
    /// The terminal's device number, 0 for none.
    public var terminal: UInt32 = 0
    /// One letter: R, S, D, Z …
    public var state = ""

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &pid)
        try coder.field(2, &parent)
        try coder.field(3, &uid)
        try coder.strings(4, &arguments)
        try coder.field(5, &started)
        try coder.field(6, &cpu)
        try coder.field(7, &resident)
        try coder.field(8, &terminal)
        try coder.field(9, &state)
    }
}

/// The answer to `processes`.
public struct ProcessList: WireMessage, Equatable, Sendable {
    public var processes: [ProcessEntry] = []
    /// Whether there were more than fit.
    public var truncated = false

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.list(1, &processes)
        try coder.field(2, &truncated)
    }
}

/// How a process ended.
public struct ProcessExit: WireMessage, Equatable, Sendable {
    /// The exit code, when no signal ended it.
    public var code: UInt32 = 0
    /// The signal that ended it, 0 for none.
    public var signal: UInt32 = 0
    /// Whether the kernel killed in its container for want of memory while it ran, and it died of SIGKILL.
    public var outOfMemory = false

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &code)
        try coder.field(2, &signal)
        try coder.field(3, &outOfMemory)
    }
}

/// The kernel killed something in a container for want of memory.
public struct OutOfMemory: WireMessage, Equatable, Sendable {
    public var container = ""
    /// How many it killed so far.
    public var kills: UInt64 = 0

    public init() {}

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &container)
        try coder.field(2, &kills)
    }
}

/// A line of the agent for the sandbox's log.
public struct LogLine: WireMessage, Equatable, Sendable {
    public var text = ""

    public init() {}

    /// A line.
    public init(_ text: String) { self.text = text }

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &text)
    }
}
