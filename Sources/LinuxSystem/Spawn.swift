import CLinux
import Glibc

/// How a process is to be started. Plain data; `spawn()` starts it. No shell is ever between.
public struct Spawn {
    /// What to execute, seen from inside `root`.
    public var file: String
    /// argv, the name first.
    public var arguments: [String]
    /// The whole environment, `NAME=value` each; nothing is inherited.
    public var environment: [String]
    /// The child's descriptors: (ours, its number); of two for one number the first. All others are closed, and 0–2 too where they are not named.
    public var descriptors: [(from: any DescriptorSource, to: Int32)]
    /// CLONE_NEW* flags.
    public var namespaces: Int32 = 0
    /// Namespaces to join.
    public var userNamespace: SharedDescriptor?
    public var networkNamespace: SharedDescriptor?
    public var mountNamespace: SharedDescriptor?
    /// A mount point that becomes the child's `/` (needs CLONE_NEWNS).
    public var root: String?
    /// The working directory, seen from inside `root`.
    public var directory: String?
    /// User and group id, and supplementary groups.
    public var identity: (uid: UInt32, gid: UInt32, groups: [UInt32])?
    /// With an identity: the groups stay as they are.
    public var keepsGroups = false
    /// The capabilities that stay, as a mask; nil leaves all as they are.
    public var capabilities: UInt64?
    public var noNewPrivileges = false
    /// The AppArmor profile that the program runs under; nil for the caller's own.
    public var profile: String?
    /// The SELinux label that the program runs under; nil for what the policy says.
    public var label: String?
    /// setsid(2); `controllingTerminal` is the child's descriptor number to take as its terminal.
    public var newSession = false
    public var controllingTerminal: Int32?
    /// PR_SET_PDEATHSIG. Only from the loop's thread, which lives as long as the process.
    public var deathSignal: Int32 = 0
    public var oomScore: Int32?
    /// Resource limits (RLIMIT_*).
    public var limits: [(resource: Int32, soft: UInt64, hard: UInt64)] = []

    /// A child that executes `file` with `arguments` (argv[0] is added: the file's name).
    public init(
        _ file: String, _ arguments: [String] = [],
        environment: [String] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    ) {
        self.file = file
        self.arguments = [file.split(separator: "/").last.map(String.init) ?? file] + arguments
        self.environment = environment
        self.descriptors = []
    }

    /// Starts the child. Returns when it has executed `file`; throws when a step before that failed, with its name.
    public func spawn() throws(SystemError) -> ChildProcess {
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
        let strings = [file, root, directory, profile, label].map { $0.flatMap { strdup($0) } }
        defer { for pointer in argv + envp + strings { free(pointer) } }
        // The numbers of its descriptors are used below, not the descriptors.
        defer { withExtendedLifetime(self) {} }
        var pid: pid_t = 0
        var pidfd: Int32 = -1
        var step: UnsafePointer<CChar>?
        let map = descriptors.map { hull_descriptor(from: $0.from.raw, to: $0.to) }
        let groups = identity?.groups ?? []
        let limits = limits.map { hull_limit(resource: $0.resource, soft: $0.soft, hard: $0.hard) }
        let failure = argv.withUnsafeMutableBufferPointer { argv in
            envp.withUnsafeMutableBufferPointer { envp in
                map.withUnsafeBufferPointer { map in
                    groups.withUnsafeBufferPointer { groups in
                        limits.withUnsafeBufferPointer { limits in
                            var how = hull_spawn()
                            how.file = UnsafePointer(strings[0])
                            how.exec_descriptor = -1
                            how.argv = UnsafePointer(argv.baseAddress!)
                            how.envp = UnsafePointer(envp.baseAddress!)
                            how.descriptors = map.baseAddress
                            how.descriptor_count = map.count
                            how.namespaces = UInt64(UInt32(bitPattern: namespaces))
                            how.join_user = userNamespace?.raw ?? -1
                            how.join_net = networkNamespace?.raw ?? -1
                            how.join_mount = mountNamespace?.raw ?? -1
                            how.root = UnsafePointer(strings[1])
                            how.directory = UnsafePointer(strings[2])
                            if let identity {
                                how.set_ids = 1
                                how.uid = identity.uid
                                how.gid = identity.gid
                                how.keep_groups = keepsGroups ? 1 : 0
                                how.groups = groups.baseAddress
                                how.group_count = groups.count
                            }
                            if let capabilities {
                                how.drop_capabilities = 1
                                how.keep_capabilities = capabilities
                            }
                            how.no_new_privileges = noNewPrivileges ? 1 : 0
                            how.profile = UnsafePointer(strings[3])
                            how.label = UnsafePointer(strings[4])
                            how.new_session = newSession ? 1 : 0
                            how.controlling_terminal = controllingTerminal ?? -1
                            how.death_signal = deathSignal
                            if let oomScore {
                                how.set_oom_score = 1
                                how.oom_score = oomScore
                            }
                            how.limits = limits.baseAddress
                            how.limit_count = limits.count
                            return hull_spawn_process(&how, &pid, &pidfd, &step)
                        }
                    }
                }
            }
        }
        withExtendedLifetime(self) {}
        guard failure == 0 else {
            var words = step.map { String(cString: $0) } ?? "make a process"
            if let label, words.hasSuffix("SELinux label") { words += " \(label)" }
            throw SystemError("start \(file) (\(words))", code: failure)
        }
        return ChildProcess(pid: pid, descriptor: SharedDescriptor(owning: pidfd))
    }
}

/// How a process ended.
public enum ExitStatus: Hashable, Sendable {
    case code(Int32)
    case signal(Int32)

    /// Of a process whose parent is another.
    public static let unknown = ExitStatus.code(-1)

    /// As a shell says it: the code, or 128 + the signal.
    public var shellCode: Int32 {
        switch self {
        case .code(let code): code
        case .signal(let signal): 128 + signal
        }
    }
    public var isSuccess: Bool { self == .code(0) }
}

/// A process of ours, held by a pidfd, so that no signal can reach another one that got its number.
public final class ChildProcess: Sendable {
    public let pid: Int32
    private let descriptor: SharedDescriptor
    /// Whether somebody else is its parent, and hears how it ended.
    private let isForeign: Bool

    init(pid: Int32, descriptor: SharedDescriptor, isForeign: Bool = false) {
        self.pid = pid
        self.descriptor = descriptor
        self.isForeign = isForeign
    }

    /// One that another process made below our pid namespace, in one of its own, and gave us hold of. How it ends nobody can tell us
    /// (`ExitStatus.unknown`).
    public convenience init(foreign descriptor: SharedDescriptor) throws(SystemError) {
        let text = try readText("/proc/self/fdinfo/\(descriptor.raw)")
        // As the /proc counts, …, as we do, as it does itself (proc(5)).
        let numbers =
            text.split(separator: "\n").first { $0.hasPrefix("NSpid:") }?.split(whereSeparator: \.isWhitespace).dropFirst() ?? []
        guard let pid = numbers.dropLast().last.flatMap({ Int32($0) }) else {
            throw SystemError("look at a process that has ended", code: ESRCH)
        }
        self.init(pid: pid, descriptor: descriptor, isForeign: true)
    }

    /// A child of ours that was made by fork(2) and that nobody has waited for.
    public convenience init(forked pid: Int32) throws(SystemError) {
        let descriptor = hull_pidfd_open(pid)
        if descriptor < 0 { throw SystemError("hold on to process \(pid)", code: -descriptor) }
        self.init(pid: pid, descriptor: SharedDescriptor(owning: descriptor))
    }

    /// The process as this host's `/proc` names it, which may belong to another pid namespace than ours; nil when it was reaped.
    public var identity: ProcessIdentity? {
        // pidfd's fdinfo gives the number in the namespace of the /proc that is read (proc(5)).
        guard let text = try? readText("/proc/self/fdinfo/\(descriptor.raw)"),  // no /proc, no identity
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("Pid:") }),
            let pid = Int32(line.dropFirst(4).drop(while: \.isWhitespace)), pid > 0
        else { return nil }
        return ProcessIdentity(pid: pid)
    }

    /// Moves it into cgroups (v1 and v2), by their open `cgroup.procs` files. The kernel lets a grace period pass before the first (some 15 ms): the
    /// child runs meanwhile, and what it starts before this returns may stay outside. One that has ended has nothing to be moved.
    public func join(_ cgroups: [SharedDescriptor]) throws(SystemError) {
        for cgroup in cgroups {
            let text = Array("\(pid)".utf8)
            guard write(cgroup.raw, text, text.count) < 0, errno != ESRCH else { continue }
            throw SystemError("move process \(pid) into its cgroup", code: errno)
        }
    }

    /// Waits for the end and reaps. At most one task may wait.
    public func wait() async throws -> ExitStatus {
        if isForeign {
            try await readable(descriptor.raw)
            return .unknown
        }
        while true {
            if let status = try status() { return status }
            try await readable(descriptor.raw)
        }
    }

    /// Whether it has ended; `wait` still has its status.
    public var hasEnded: Bool {
        var look = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
        return poll(&look, 1, 0) == 1
    }

    /// Its status if it has ended (it is reaped then), else nil.
    private func status() throws(SystemError) -> ExitStatus? {
        var status: Int32 = 0
        let result = hull_pidfd_wait(descriptor.raw, &status)
        if result < 0 { throw SystemError("wait for process \(pid)", code: -result) }
        if result == 0 { return nil }
        return hull_wifexited(status) != 0
            ? .code(hull_wexitstatus(status)) : .signal(hull_wtermsig(status))
    }

    /// Sends `signal`; a process that has ended already is no error.
    public func signal(_ signal: Int32) {
        _ = hull_pidfd_send_signal(descriptor.raw, signal)
    }
}

/// What a program that was run to its end left.
public struct Output: Sendable {
    public var status: ExitStatus
    public var standardOutput: [UInt8]
    public var standardError: [UInt8]
    /// Standard error as text, trimmed: for error sentences.
    public var complaint: String {
        var text = Substring(String(decoding: standardError, as: UTF8.self))
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}

extension Spawn {
    /// Runs the program to its end with `input` on its standard input; both outputs are collected, up to `limit` bytes each
    /// (what is more is dropped), and `hear` gets all of the first as it comes. Where `descriptors` has 0, 1 or 2, that is not so for it.
    /// Cancelling the task kills the program; it is reaped in any case.
    @Loop
    public func run(
        input: [UInt8] = [], limit: Int = 16 << 20, hear: @escaping @Loop @Sendable ([UInt8]) -> Void = { _ in }
    ) async throws -> Output {
        let pipes = try ChildPipes()
        let child = try pipes.spawn(self)
        // Tasks of the loop: an `async let` would begin on Swift's global pool, whose threads stay.
        let feeding = Task { @Loop in await pipes.feed(input) }
        let out = Task { @Loop in try await pipes.drainOutput(limit, hear) }
        let err = Task { @Loop in try await pipes.drainError(limit) }
        defer { for end in [feeding.cancel, out.cancel, err.cancel] { end() } }
        do {
            return try await withTaskCancellationHandler {
                let (collected, complaints) = (try await out.value, try await err.value)
                let status = try await child.wait()
                await feeding.value
                try Task.checkCancellation()
                return Output(status: status, standardOutput: collected, standardError: complaints)
            } onCancel: {
                child.signal(SIGKILL)
                for end in [feeding.cancel, out.cancel, err.cancel] { end() }
            }
        } catch {
            child.signal(SIGKILL)
            // In a task of its own: this one may be cancelled, and nobody else will reap.
            _ = await Task { @Loop in try await child.wait() }.result
            throw error
        }
    }
}

/// The pipes of a child. The ends are held here and nowhere else: as long as a copy of an end is open, whoever reads the other
/// waits for more.
@Loop
private final class ChildPipes {
    private var childs: [SharedDescriptor]
    private var input: SharedDescriptor?
    private let output: SharedDescriptor
    private let error: SharedDescriptor

    init() throws {
        let stdin = try makePipe()
        let stdout = try makePipe()
        let stderr = try makePipe()
        childs = [stdin.read, stdout.write, stderr.write]
        input = stdin.write
        output = stdout.read
        error = stderr.read
        for end in [stdin.write, stdout.read, stderr.read] { try setNonBlocking(end.raw) }
    }

    func spawn(_ how: Spawn) throws -> ChildProcess {
        var how = how
        // Behind the caller's own: of two for one number the first counts.
        for (number, end) in childs.enumerated() { how.descriptors.append((end, Int32(number))) }
        defer { childs = [] }
        return try how.spawn()
    }

    func feed(_ bytes: [UInt8]) async {
        // A program that does not read its input to the end is free to do so.
        if let raw = input?.raw { try? await writeAll(raw, bytes) }
        input = nil
    }

    func drainOutput(_ limit: Int, _ hear: @Loop ([UInt8]) -> Void) async throws -> [UInt8] {
        try await drain(output, limit, hear)
    }
    func drainError(_ limit: Int) async throws -> [UInt8] { try await drain(error, limit) { _ in } }

    private func drain(_ end: SharedDescriptor, _ limit: Int, _ hear: @Loop ([UInt8]) -> Void) async throws -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let chunk = try await readSome(end.raw)
            if chunk.isEmpty { return all }
            hear(chunk)
            if all.count < limit { all += chunk.prefix(limit - all.count) }
        }
    }
}
