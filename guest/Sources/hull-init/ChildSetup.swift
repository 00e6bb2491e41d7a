import AgentProtocol
import CGuest

/// What a child does between clone and exec. It is a copy of the single-threaded agent, so it may do anything.
struct ChildSetup {
    let configuration: ProcessConfiguration
    let container: ContainerConfiguration
    /// The agent's folder for the container.
    let directory: String
    let share: String
    /// The container's cgroup's folder.
    let cgroup: String
    /// Whether it has namespaces of its own already.
    var isPrepared = false
    var socket: Int32 = -1
    var stdin: Int32 = -1
    var stdout: Int32 = -1
    var stderr: Int32 = -1
    /// The pidfd of the container's init process, for an exec.
    var joined: Int32 = -1
    /// The pidfd of a process whose ipc namespace is joined.
    var ipc: Int32 = -1

    /// Becomes the process, or says why not.
    consuming func run() -> Never {
        let socket = self.socket
        do throws(AgentFailure) { try become() } catch {
            let bytes: [UInt8] = [70] + error.encoded()
            _ = bytes.withUnsafeBytes { guest_send(socket, $0.baseAddress, $0.count, -1) }
            _exit(1)
        }
        _exit(1)
    }

    private mutating func become() throws(AgentFailure) {
        // Until exec this is the agent's memory: nobody in the container may look at it or reopen the agent's file.
        _ = guest_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        guest_schedule(0)
        try schedule()
        resetSignals()
        _ = try? TextFile.write("/proc/self/oom_score_adj", "\(configuration.oomScoreAdjust)")  // a refusal harms nobody
        _ = umask(0)
        setsid()
        let namespace = try UserNamespace(container)
        if joined >= 0 {
            var types = Int32(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
            if namespace != nil {
                // What takes a right of the guest's own root.
                try Program.limit(configuration)
                if !configuration.terminal { try giveStreams(try User(configuration.user, [])) }
                types |= Int32(CLONE_NEWUSER)
            }
            let done = guest_setns(joined, types)
            if done < 0 { throw AgentFailure(.unknown, "joining the container: \(KernelError(-done).words)", errno: -done) }
            _ = chdir("/")
            if namespace != nil { try UserNamespace.becomeRoot() }
        } else {
            if ipc >= 0 { _ = guest_setns(ipc, Int32(CLONE_NEWIPC)) }
            if !isPrepared { try Self.leaveCgroupNamespace() }
            try setNames()
            var root = ContainerRoot(container: container, path: directory + "/root", share: share)
            root.files = directory + "/files"
            root.sockets = directory + "/sockets"
            root.cgroup = cgroup
            if let namespace { try namespace.actAsRoot() }
            try root.build()
        }
        if configuration.terminal { try openTerminal() }
        let user = try User(configuration.user, configuration.groups)
        try placeStdio(user)
        let program = Program(configuration, user, isInit: joined < 0, socket: socket)
        if joined < 0, let namespace {
            try Program.limit(configuration)
            try namespace.enter()
        }
        try program.execute(isLimited: namespace != nil)
    }

    /// What of the cgroups it sees begins with its own.
    static func leaveCgroupNamespace() throws(AgentFailure) {
        if unshare(Int32(CLONE_NEWCGROUP)) < 0 {
            throw AgentFailure(
                .cgroup, "making a cgroup namespace: \(KernelError(guest_errno()).words)", errno: guest_errno())
        }
    }

    /// How it is scheduled, which takes a right of the guest's own root.
    private func schedule() throws(AgentFailure) {
        func check(_ what: String, _ done: Int32) throws(AgentFailure) {
            if done < 0 { throw AgentFailure(.security, "error setting \(what): \(KernelError(-done).words)", errno: -done) }
        }
        if let way = configuration.scheduler {
            try check(
                "scheduler",
                guest_set_scheduler(
                    way.policy, way.nice, way.priority, way.flags, way.runtime, way.deadline, way.period))
        }
        if configuration.ioPriority != 0 { try check("io priority", guest_set_io_priority(configuration.ioPriority)) }
        if let kind = configuration.personality { try check("personality", guest_set_personality(kind)) }
    }

    private func resetSignals() {
        var none = sigset_t()
        sigemptyset(&none)
        sigprocmask(SIG_SETMASK, &none, nil)
        guest_signal(SIGPIPE, 0)
    }

    private func setNames() throws(AgentFailure) {
        let name = Array(container.hostname.utf8)
        let domain = Array(container.domainname.utf8)
        if !name.isEmpty, name.withUnsafeBytes({ sethostname($0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count) }) < 0
        {
            throw AgentFailure(.other, "setting the host name: \(KernelError(guest_errno()).words)", errno: guest_errno())
        }
        if !domain.isEmpty,
            domain.withUnsafeBytes({ setdomainname($0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count) }) < 0
        {
            throw AgentFailure(.other, "setting the domain name: \(KernelError(guest_errno()).words)", errno: guest_errno())
        }
    }

    /// A terminal of the container's own devpts, whose master the agent gets.
    private mutating func openTerminal() throws(AgentFailure) {
        let master = guest_open("/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0)
        guard master >= 0 else {
            throw AgentFailure(.mount, "opening a terminal in the container: \(KernelError(-master).words)", errno: -master)
        }
        let slave = guest_open_peer(master)
        guard slave >= 0 else {
            throw AgentFailure(.mount, "opening a terminal in the container: \(KernelError(-slave).words)", errno: -slave)
        }
        if configuration.rows > 0 || configuration.columns > 0 {
            _ = guest_set_window(master, configuration.rows, configuration.columns)
        }
        let mark: [UInt8] = [84]
        let sent = mark.withUnsafeBytes { guest_send(socket, $0.baseAddress, $0.count, master) }
        if sent < 0 { throw AgentFailure(.resources, "passing the terminal on: \(KernelError(-sent).words)", errno: -sent) }
        if joined < 0, let name = ptsname(master) {
            let made = guest_open("/dev/console", O_CREAT | O_WRONLY | O_NOFOLLOW | O_NOCTTY, 0o620)
            if made >= 0 {
                close(made)
                _ = guest_mount(String(cString: name), "/dev/console", nil, UInt(MS_BIND), nil)
            }
        }
        close(master)
        stdin = slave
        stdout = slave
        stderr = slave
    }

    /// The user must be able to open /dev/stdout again; the null device stays root's.
    private func giveStreams(_ user: User) throws(AgentFailure) {
        // An exec's own terminal is made inside, where the ids are the user's.
        let isInside = configuration.terminal && joined >= 0
        let uid = isInside ? user.uid : try UserNamespace.outside(user.uid, container.userIDs)
        if configuration.terminal || configuration.wantsInput { _ = fchown(stdin, uid, gid_t.max) }
        if configuration.terminal { return }
        _ = fchown(stdout, uid, gid_t.max)
        _ = fchown(stderr, uid, gid_t.max)
    }

    private func placeStdio(_ user: User) throws(AgentFailure) {
        try giveStreams(user)
        guard dup2(stdin, 0) >= 0, dup2(stdout, 1) >= 0, dup2(stderr, 2) >= 0 else {
            throw AgentFailure(
                .resources, "placing the process's streams: \(KernelError(guest_errno()).words)", errno: guest_errno())
        }
        if configuration.terminal { _ = guest_controlling_terminal(0) }
    }
}
