import AgentProtocol
import CGuest

extension Agent {
    /// Starts a process; it is answered when its program runs or when that failed.
    func start(_ header: FrameHeader, _ configuration: ProcessConfiguration, _ message: [UInt8]) throws(AgentFailure) {
        if !configuration.relay.utf8.isEmpty { return try startRelay(header, configuration) }
        let container = try container(configuration.container)
        guard configuration.process != 0, configuration.process < 1 << 56, processes[configuration.process] == nil else {
            throw AgentFailure(.exists, "the guest has a process \(configuration.process) already")
        }
        guard processes.count < Limits.processes else {
            throw AgentFailure(.resources, "the guest runs \(Limits.processes) processes of the host already")
        }
        guard !configuration.arguments.isEmpty else { throw AgentFailure(.invalid, "no command was given") }
        for text in configuration.arguments + configuration.environment where text.utf8.contains(0) {
            throw AgentFailure(.invalid, "an argument or a variable of the command holds a NUL")
        }
        var namespaces: UInt64 = 0
        var target: Process?
        if configuration.isExec {
            guard let number = container.initProcess, let running = processes[number], running.exit == nil,
                running.pendingRequest == nil
            else { throw AgentFailure(.unknown, "container \(configuration.container) is not running") }
            target = running
        } else {
            guard container.initProcess == nil else {
                throw AgentFailure(.exists, "container \(configuration.container) is running already")
            }
            namespaces = UInt64(CLONE_NEWNS | CLONE_NEWUTS)
            if container.configuration.pidNamespaceOf.utf8.isEmpty { namespaces |= UInt64(CLONE_NEWPID) }
            if container.configuration.ipcNamespaceOf.utf8.isEmpty { namespaces |= UInt64(CLONE_NEWIPC) }
            if let shared = try sharedInit(container.configuration.pidNamespaceOf) { target = shared }
        }

        Network.trustsLoopback = false
        let kills = container.oomKills()
        if !configuration.isExec, let waiting = takeWaiting(for: container, message) {
            var stdio: ChildStdio
            do throws(AgentFailure) { stdio = try ChildStdio(configuration, over: waiting) } catch {
                close(waiting.pidfd)
                throw error
            }
            let became = waiting.become(
                container.message, message, hasTerminal: configuration.terminal,
                container.directory + "\n" + share + "\n" + container.cgroup.path,
                stdio)
            container.message = []
            stdio.closeChildEnds()
            if became {
                watch(header, configuration, stdio, waiting.pid, waiting.pidfd, kills)
                container.initProcess = configuration.process
                return
            }
            // It has ended meanwhile.
            stdio.closeParentEnds()
            close(waiting.pidfd)
        }
        var stdio = try ChildStdio(configuration)
        var setup = ChildSetup(
            configuration: configuration, container: container.configuration, directory: container.directory, share: share,
            cgroup: container.cgroup.path)
        setup.socket = stdio.childSocket
        setup.stdin = stdio.childInput
        setup.stdout = stdio.childOutput
        setup.stderr = stdio.childError
        setup.joined = configuration.isExec ? target?.pidfd.number ?? -1 : -1
        setup.ipc = try sharedInit(container.configuration.ipcNamespaceOf)?.pidfd.number ?? -1

        var pidfd: Int32 = -1
        let pid = clone(namespaces, container.cgroup, pidNamespace: target, &pidfd)
        if pid == 0 { setup.run() }
        stdio.closeChildEnds()
        guard pid > 0 else {
            stdio.closeParentEnds()
            throw AgentFailure(.resources, "starting a process in the guest: \(KernelError(-pid).words)", errno: -pid)
        }
        watch(header, configuration, stdio, pid, pidfd, kills)
        if !configuration.isExec { container.initProcess = configuration.process }
    }

    /// A relay: a child of the agent's own, whose streams are carried like a process's.
    private func startRelay(_ header: FrameHeader, _ configuration: ProcessConfiguration) throws(AgentFailure) {
        guard configuration.process != 0, configuration.process < 1 << 56, processes[configuration.process] == nil else {
            throw AgentFailure(.exists, "the guest has a process \(configuration.process) already")
        }
        guard processes.count < Limits.processes else {
            throw AgentFailure(.resources, "the guest runs \(Limits.processes) processes of the host already")
        }
        var socket: Container.Socket?
        if configuration.relay.utf8.starts(with: "socket:".utf8) {
            let number = Scan.number(configuration.relay.utf8.dropFirst(7)) ?? UInt64.max
            socket = try container(configuration.container).sockets.first { $0.number == number }
            if socket == nil { throw AgentFailure(.unknown, "the container has no socket \(configuration.relay)") }
        }
        var stdio = try ChildStdio(configuration)
        var pidfd: Int32 = -1
        let pid = guest_clone(0, -1, &pidfd)
        if pid == 0 {
            guard let socket else { guest_relay_names(configuration.relay, stdio.childInput, stdio.childOutput) }
            if socket.isDatagram { guest_relay_datagrams(socket.listener, stdio.childInput, stdio.childOutput) }
            guest_relay_connection(socket.listener, stdio.childInput, stdio.childOutput)
        }
        stdio.closeChildEnds()
        guard pid > 0 else {
            stdio.closeParentEnds()
            throw AgentFailure(.resources, "starting a relay: \(KernelError(-pid).words)", errno: -pid)
        }
        watch(header, configuration, stdio, pid, pidfd, 0)
    }

    /// Notes a child that was started; it is answered when its socket ends.
    private func watch(
        _ header: FrameHeader, _ configuration: ProcessConfiguration, _ stdio: ChildStdio, _ pid: Int32, _ pidfd: Int32,
        _ kills: UInt64
    ) {
        let process = Process(configuration, pid: pid, pidfd: Descriptor(owning: pidfd))
        process.pendingRequest = header.id
        process.oomKillsBefore = kills
        process.start = Descriptor(owning: stdio.socket)
        if stdio.input >= 0 { process.input = Descriptor(owning: stdio.input) }
        if stdio.output >= 0 { process.output = Descriptor(owning: stdio.output) }
        if stdio.error >= 0 { process.error = Descriptor(owning: stdio.error) }
        if stdio.error < 0 { process.errorWindow.end() }
        processes[process.id] = process
        loop.add(stdio.socket, Ready.input, .start, process.id)
    }

    private func sharedInit(_ id: String) throws(AgentFailure) -> Process? {
        guard !id.utf8.isEmpty else { return nil }
        guard let number = containers[id]?.initProcess, let process = processes[number], process.exit == nil else {
            throw AgentFailure(.unknown, "container \(id), whose namespace is to be joined, is not running")
        }
        return process
    }

    /// clone3, in the pid namespace of another process where one is given: the agent enters it for a moment, because only
    /// children are born into a new pid namespace.
    private func clone(_ flags: UInt64, _ cgroup: Cgroup, pidNamespace: Process?, _ pidfd: inout Int32) -> Int32 {
        var folder = guest_open(cgroup.path, O_PATH | O_DIRECTORY, 0)
        defer { if folder >= 0 { close(folder) } }
        var own: Int32 = -1
        if let pidNamespace {
            own = guest_open("/proc/self/ns/pid", O_RDONLY, 0)
            if own < 0 { return own }
            let entered = guest_setns(pidNamespace.pidfd.number, Int32(CLONE_NEWPID))
            if entered < 0 {
                close(own)
                return entered
            }
        }
        var pid = guest_clone(flags, folder, &pidfd)
        if pid == -EBUSY || pid == -EOPNOTSUPP, let pidNamespace {
            // The container divided its cgroup ("no internal processes"): go where its init process is.
            let lines = Scan.split(TextFile.read("/proc/\(pidNamespace.pid)/cgroup"), 10)
            if let line = lines.first(where: { $0.starts(with: "0::".utf8) }) {
                close(folder)
                folder = guest_open("/sys/fs/cgroup" + Scan.text(Array(line.dropFirst(3))), O_PATH | O_DIRECTORY, 0)
                pid = guest_clone(flags, folder, &pidfd)
            }
        }
        if own >= 0, pid != 0 {
            _ = guest_setns(own, Int32(CLONE_NEWPID))
            close(own)
        }
        return pid
    }
}

/// The descriptors between the agent and a child.
struct ChildStdio {
    var socket: Int32 = -1
    var childSocket: Int32 = -1
    var input: Int32 = -1
    var output: Int32 = -1
    var error: Int32 = -1
    var childInput: Int32 = -1
    var childOutput: Int32 = -1
    var childError: Int32 = -1

    /// Those to a child that waits have their socket already.
    init(_ configuration: ProcessConfiguration, over waiting: WaitingChild? = nil) throws(AgentFailure) {
        if let waiting {
            socket = waiting.socket
        } else {
            (socket, childSocket) = try Self.socketPair()
        }
        if configuration.terminal { return }
        if configuration.wantsInput {
            let (read, write) = try pipe()
            childInput = read
            input = write
            _ = guest_fcntl(input, F_SETFL, Int(O_NONBLOCK))
        } else {
            childInput = guest_open("/dev/null", O_RDONLY, 0)
        }
        (output, childOutput) = try pipe()
        (error, childError) = try pipe()
        _ = guest_fcntl(output, F_SETFL, Int(O_NONBLOCK))
        _ = guest_fcntl(error, F_SETFL, Int(O_NONBLOCK))
    }

    /// The ends of the agent and of a child.
    static func socketPair() throws(AgentFailure) -> (Int32, Int32) {
        var pair: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &pair) == 0 else { throw failure() }
        return (pair[0], pair[1])
    }

    private func pipe() throws(AgentFailure) -> (Int32, Int32) {
        var pair: [Int32] = [-1, -1]
        guard pipe2(&pair, O_CLOEXEC) == 0 else {
            let failure = Self.failure()
            var copy = self
            copy.closeChildEnds()
            copy.closeParentEnds()
            throw failure
        }
        return (pair[0], pair[1])
    }

    private static func failure() -> AgentFailure {
        let number = guest_errno()
        return AgentFailure(.resources, "making the process's pipes: \(KernelError(number).words)", errno: number)
    }

    mutating func closeChildEnds() {
        for number in [childSocket, childInput, childOutput, childError] where number >= 0 { close(number) }
        childSocket = -1
        childInput = -1
        childOutput = -1
        childError = -1
    }

    mutating func closeParentEnds() {
        for number in [socket, input, output, error] where number >= 0 { close(number) }
    }
}
