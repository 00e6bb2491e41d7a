import AgentProtocol
import CGuest

/// The last steps of a child: directory, limits, identity, privileges, exec.
struct Program {
    private let configuration: ProcessConfiguration
    private let user: User
    private let isInit: Bool
    /// To the agent.
    private let socket: Int32
    private var environment: [String]

    init(_ configuration: ProcessConfiguration, _ user: User, isInit: Bool, socket: Int32) {
        self.socket = socket
        self.configuration = configuration
        self.user = user
        self.isInit = isInit
        environment = configuration.environment
        if !environment.contains(where: { $0.utf8.starts(with: "HOME=".utf8) }) { environment.append("HOME=" + user.home) }
    }

    /// Does not return where it succeeds.
    func execute(isLimited: Bool) throws(AgentFailure) {
        try enterDirectory()
        if !isLimited { try Self.limit(configuration) }
        _ = umask(configuration.umask & 0o777)
        if configuration.noNewPrivileges { _ = guest_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }
        // Without no_new_privs only a privileged process may load a filter.
        if !configuration.noNewPrivileges { try loadSeccomp() }
        try changeIdentity()
        let path = try find()
        if configuration.noNewPrivileges { try loadSeccomp() }
        if configuration.held {
            waitForRelease()
            for hook in configuration.hooks { try run(hook) }
        }
        if configuration.initWrapper, isInit { InitWrapper.fork() }
        throw run(path)
    }

    /// Sets the process's resource limits.
    static func limit(_ configuration: ProcessConfiguration) throws(AgentFailure) {
        for limit in configuration.limits {
            var value = rlimit(rlim_cur: rlim_t(limit.soft), rlim_max: rlim_t(limit.hard))
            if prlimit(0, __rlimit_resource(limit.resource), &value, nil) < 0 {
                let error = KernelError(guest_errno())
                throw AgentFailure(
                    .security, "error setting rlimit type \(limit.resource): \(error.words)", errno: error.number)
            }
        }
    }

    /// Says that all is ready, and waits for the agent's word; an agent that is gone says nothing any more.
    private func waitForRelease() {
        var mark: UInt8 = 72
        if write(socket, &mark, 1) != 1 || read(socket, &mark, 1) != 1 { _exit(1) }
    }

    private func enterDirectory() throws(AgentFailure) {
        let path = configuration.workingDirectory.utf8.isEmpty ? "/" : configuration.workingDirectory
        if chdir(path) == 0 { return }
        if guest_errno() == ENOENT {
            var made = ""
            for part in Scan.split(path.utf8, 47) where !part.isEmpty {
                made += "/" + Scan.text(part)
                _ = mkdir(made, 0o755)
            }
        }
        if chdir(path) < 0 {
            let error = KernelError(guest_errno())
            throw AgentFailure(
                .workingDirectory, "chdir to cwd (\"\(path)\") set in config.json failed: \(error.words)", errno: error.number)
        }
    }

    private func loadSeccomp() throws(AgentFailure) {
        let count = configuration.seccomp.count / 8
        guard count > 0 else { return }
        let done = configuration.seccomp.withUnsafeBytes {
            guest_seccomp($0.baseAddress, UInt32(min(count, 65535)), UInt32(truncatingIfNeeded: configuration.seccompFlags))
        }
        if done < 0 { throw AgentFailure(.security, "error loading seccomp filter: \(KernelError(-done).words)", errno: -done) }
    }

    private func changeIdentity() throws(AgentFailure) {
        if let sets = configuration.capabilities {
            for number in 0..<64 where sets.bounding & (1 << UInt64(number)) == 0 {
                if guest_prctl(PR_CAPBSET_DROP, UInt(number), 0, 0, 0) == -EINVAL { break }
            }
        }
        _ = guest_prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        try check("setgroups", setgroups(user.groups.count, user.groups))
        try check("setgid", setresgid(user.gid, user.gid, user.gid))
        try check("setuid", setresuid(user.uid, user.uid, user.uid))
        _ = guest_prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0)
        // A change of user makes the process dumpable again where the kernel's setting says so.
        _ = guest_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        guard let sets = configuration.capabilities else { return }
        let known = Self.known
        let done = guest_capset(sets.effective & known, sets.permitted & known, sets.inheritable & known)
        if done < 0 { throw AgentFailure(.security, "setting capabilities: \(KernelError(-done).words)", errno: -done) }
        for number in 0..<64 where sets.ambient & known & (1 << UInt64(number)) != 0 {
            _ = guest_prctl(PR_CAP_AMBIENT, UInt(PR_CAP_AMBIENT_RAISE), UInt(number), 0, 0)
        }
    }

    /// The capabilities that the guest's kernel has.
    static var known: UInt64 {
        var known: UInt64 = 0
        for number in 0..<64 {
            if guest_prctl(PR_CAPBSET_READ, UInt(number), 0, 0, 0) == -EINVAL { break }
            known |= 1 << UInt64(number)
        }
        return known
    }

    private func check(_ call: String, _ done: Int32) throws(AgentFailure) {
        if done < 0 {
            let error = KernelError(guest_errno())
            throw AgentFailure(.security, "\(call): \(error.words)", errno: error.number)
        }
    }

    /// The program's path, looked up like Go's LookPath does for Docker.
    private func find() throws(AgentFailure) -> String {
        let name = configuration.arguments[0]
        if name.utf8.contains(47) {
            var status = stat()
            if stat(name, &status) < 0 {
                let error = KernelError(guest_errno())
                throw AgentFailure(
                    error.number == EACCES ? .notExecutable : .commandNotFound,
                    "exec: \"\(name)\": stat \(name): \(error.words)", errno: error.number)
            }
            if status.st_mode & UInt32(S_IFMT) == UInt32(S_IFDIR) {
                throw AgentFailure(.notExecutable, "exec: \"\(name)\": is a directory", errno: EISDIR)
            }
            if access(name, X_OK) < 0 {
                throw AgentFailure(.notExecutable, "exec: \"\(name)\": permission denied", errno: EACCES)
            }
            return name
        }
        var path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        for variable in environment where variable.utf8.starts(with: "PATH=".utf8) {
            path = Scan.text(Array(variable.utf8.dropFirst(5)))
        }
        if !name.utf8.isEmpty {
            for folder in Scan.split(path.utf8, 58) {
                let candidate = (folder.isEmpty ? "." : Scan.text(folder)) + "/" + name
                var status = stat()
                if stat(candidate, &status) == 0, status.st_mode & UInt32(S_IFMT) != S_IFDIR, access(candidate, X_OK) == 0 {
                    return candidate
                }
            }
        }
        throw AgentFailure(.commandNotFound, "exec: \"\(name)\": executable file not found in $PATH", errno: ENOENT)
    }

    /// Runs a hook to its end, which must be a good one.
    private func run(_ hook: HookConfiguration) throws(AgentFailure) {
        var pipes: [Int32] = [-1, -1]
        let input = configuration.hookInput + "\n"
        guard pipe2(&pipes, O_CLOEXEC) == 0 else { throw AgentFailure(.resources, "making a hook's pipe") }
        let child = guest_fork()
        if child == 0 {
            dup2(pipes[0], 0)
            let error = Self.execute(hook.path, hook.arguments, hook.environment)
            _exit(error == ENOENT ? 127 : 126)
        }
        close(pipes[0])
        _ = input.withCString { write(pipes[1], $0, input.utf8.count) }
        close(pipes[1])
        var status: Int32 = 0
        if child < 0 || waitpid(child, &status, 0) < 0 || status != 0 {
            throw AgentFailure(.other, "error running startContainer hook \(hook.path): exit status \(guest_exit_code(status))")
        }
    }

    /// execve(2); returns its error.
    private static func execute(_ path: String, _ arguments: [String], _ variables: [String]) -> Int32 {
        let error = block(arguments).withUnsafeBytes { words in
            block(variables).withUnsafeBytes { settings in
                guest_execve(
                    path, guest_strings(words.baseAddress?.assumingMemoryBound(to: CChar.self), arguments.count),
                    guest_strings(settings.baseAddress?.assumingMemoryBound(to: CChar.self), variables.count))
            }
        }
        return -error
    }

    private func run(_ path: String) -> AgentFailure {
        let kernel = KernelError(Self.execute(path, configuration.arguments, environment))
        let code: AgentErrorCode
        switch kernel.number {
        case ENOENT: code = .commandNotFound
        case ENOEXEC: code = .wrongArchitecture
        case EACCES, EPERM: code = .notExecutable
        default: code = .other
        }
        return AgentFailure(code, "exec \(path): \(kernel.words)", errno: kernel.number)
    }

    private static func block(_ strings: [String]) -> [UInt8] {
        var block: [UInt8] = []
        for string in strings {
            block.append(contentsOf: string.utf8)
            block.append(0)
        }
        if block.isEmpty { block.append(0) }
        return block
    }
}

/// The small init process of `--init`: passes signals on and reaps orphans.
enum InitWrapper {
    /// Returns in the process that becomes the program; the caller's process stays behind as its parent.
    static func fork() {
        var all = sigset_t()
        sigfillset(&all)
        sigprocmask(SIG_BLOCK, &all, nil)
        // The container's filter is in force already: it refuses clone3.
        let child = guest_fork()
        if child <= 0 {
            var none = sigset_t()
            sigemptyset(&none)
            if child == 0 {
                setpgid(0, 0)
                tcsetpgrp(0, getpid())
            }
            sigprocmask(SIG_SETMASK, &none, nil)
            return
        }
        close_range(3, UInt32.max, 0)
        _ = chdir("/")
        _ = guest_prctl(PR_SET_NAME, UInt(bitPattern: strdup("init")), 0, 0, 0)
        while true {
            var number: Int32 = 0
            guard sigwait(&all, &number) == 0 else { continue }
            if number != SIGCHLD {
                _ = kill(child, number)
                continue
            }
            var ended: Int32?
            while true {
                var status: Int32 = 0
                let pid = waitpid(-1, &status, WNOHANG)
                if pid <= 0 { break }
                if pid == child { ended = status }
            }
            if let ended {
                let signal = guest_exit_signal(ended)
                _exit(signal != 0 ? 128 + signal : guest_exit_code(ended))
            }
        }
    }
}
