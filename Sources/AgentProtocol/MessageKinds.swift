/// The requests of the host; the `type` of a request frame and of its answer.
public enum RequestKind: UInt16, Sendable, CaseIterable {
    case hello = 1
    case configureSandbox = 2
    case setIdentity = 3
    case setClock = 4
    case createContainer = 5
    case startProcess = 6
    case signal = 7
    case resize = 8
    case closeProcess = 9
    case processes = 10
    case updateContainer = 11
    case stats = 12
    case removeContainer = 13
    case ping = 14
    case quiesce = 15
    case shutdown = 16
    /// Lets go of cached inodes and names, so that a share server may close what it holds open for them.
    case reclaim = 17
    /// Lets a process that was started `held` execute its program.
    case releaseProcess = 18
    /// Closes the reading end of an output: its reader on the host has gone, and who writes on gets SIGPIPE.
    case closeOutput = 19
    /// Takes processors into use or out of it, and loads what more or less memory needs: `MachineSize`.
    case resizeMachine = 20
}

/// What the guest says unasked; the `type` of an event frame.
public enum EventKind: UInt16, Sendable {
    /// A process ended, after all of its output: `ProcessExit`, the frame's id is the process.
    case exited = 1
    /// The kernel killed something in a container for want of memory: `OutOfMemory`.
    case outOfMemory = 2
    /// A line for the log: `LogLine`.
    case log = 3
    /// The process reads its input no more; what is still sent is dropped. The frame's id is the process.
    case inputClosed = 4
}

/// What went wrong, for callers that act on it; the sentence is for people.
public enum AgentErrorCode: UInt64, Sendable {
    /// Anything without a code of its own.
    case other = 0
    /// The request makes no sense in this state, or cannot be read.
    case invalid = 1
    /// The program is not in `$PATH` or not there (exit code 127 in Docker).
    case commandNotFound = 2
    /// The program may not be executed (126).
    case notExecutable = 3
    /// The program is for another architecture, or no program (ENOEXEC).
    case wrongArchitecture = 4
    /// The user is not in the image.
    case userUnknown = 5
    /// The group is not in the image.
    case groupUnknown = 6
    /// The working directory cannot be entered or made.
    case workingDirectory = 7
    /// A file system cannot be mounted.
    case mount = 8
    /// A network interface, address or route cannot be set.
    case network = 9
    /// A cgroup or one of its limits cannot be set.
    case cgroup = 10
    /// A kernel setting (sysctl) cannot be set.
    case sysctl = 11
    /// There is no such container or process.
    case unknown = 12
    /// The container or process is there already.
    case exists = 13
    /// Too many processes or containers, or out of memory.
    case resources = 14
    /// A seccomp program, capability, limit or user id was refused by the kernel.
    case security = 15
    /// No version of the protocol that both ends speak.
    case version = 16
}

/// A request that failed.
public struct AgentFailure: WireMessage, Error, Equatable, Sendable {
    /// What kind of failure it is.
    public var code = AgentErrorCode.other
    /// One sentence in Docker's wording where Docker has one.
    public var message = ""
    /// The kernel's error number, 0 when it was none.
    public var errno: Int32 = 0

    public init() {}

    /// A failure.
    public init(_ code: AgentErrorCode, _ message: String, errno: Int32 = 0) {
        self.code = code
        self.message = message
        self.errno = errno
    }

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        // A code that a newer agent invented is still a failure.
        var raw = code.rawValue
        try coder.field(1, &raw)
        code = AgentErrorCode(rawValue: raw) ?? .other
        try coder.field(2, &message)
        try coder.field(3, &errno)
    }
}

/// An answer that says nothing but yes.
public struct Done: WireMessage, Equatable, Sendable {
    public init() {}
    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {}
}

/// A name and a value: a sysctl, a limit by name.
public struct Setting: WireMessage, Equatable, Sendable {
    /// What is set.
    public var name = ""
    /// To what.
    public var value = ""

    public init() {}

    /// A setting.
    public init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }

    public mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError) {
        try coder.field(1, &name)
        try coder.field(2, &value)
    }
}
