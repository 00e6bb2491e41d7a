import AgentProtocol
import CGuest

/// A child that a template has: it has a first process's namespaces and its cgroup already, and waits for the word which process it is. In a clone
/// that is a quarter of the way to the container's command, of which every step is code that the VMM would have to translate.
struct WaitingChild {
    let pid: Int32
    let pidfd: Int32
    /// The agent's end of the socket, on which a starting child says what failed.
    let socket: Int32
    /// Its cgroup.
    let cgroup: String

    /// What may be said at once. Who has more to say starts a new child.
    static let room = 60000

    /// Tells it what to become, in the host's own messages. Its ends of the streams are copied to it. False when it has ended.
    func become(
        _ container: [UInt8], _ process: [UInt8], hasTerminal: Bool, _ places: String, _ stdio: borrowing ChildStdio
    ) -> Bool {
        for part in [container, process, Array(places.utf8)]
        where part.withUnsafeBytes({ guest_send(socket, $0.baseAddress, $0.count, -1) }) != part.count { return false }
        if hasTerminal { return true }
        let mark: [UInt8] = [83]
        for number in [stdio.childInput, stdio.childOutput, stdio.childError]
        where mark.withUnsafeBytes({ guest_send(socket, $0.baseAddress, $0.count, number) }) != 1 { return false }
        return true
    }

    /// What the child does: waits, and becomes the process.
    static func wait(_ socket: Int32, agentsEnd: Int32) -> Never {
        close(agentsEnd)
        // What the agent mounts for containers appears here too, and nothing of ours there.
        _ = guest_mount(nil, "/run", nil, UInt(MS_SLAVE), nil)
        _ = guest_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        do throws(AgentFailure) { try ChildSetup.leaveCgroupNamespace() } catch { _exit(1) }
        var buffer = [UInt8](repeating: 0, count: room + 1)
        func next(_ passed: inout Int32) -> [UInt8] {
            let got = guest_receive_waiting(socket, &buffer, buffer.count, &passed)
            // The agent wants another child, or is gone.
            if got <= 0 { _exit(1) }
            return Array(buffer[..<Int(got)])
        }
        var none: Int32 = -1
        guard let container = try? ContainerConfiguration(decoding: next(&none), elements: Limits.elements),  // ours
            let process = try? ProcessConfiguration(decoding: next(&none), elements: Limits.elements)  // as above
        else { _exit(1) }
        let words = Scan.split(next(&none), 10)
        // From here on the agent's mounts are its own business.
        _ = guest_mount(nil, "/", nil, UInt(MS_PRIVATE | MS_REC), nil)
        var setup = ChildSetup(
            configuration: process, container: container, directory: Scan.text(words[0]), share: Scan.text(words[1]),
            cgroup: Scan.text(words[2]))
        setup.isPrepared = true
        setup.socket = socket
        if !process.terminal {
            _ = next(&setup.stdin)
            _ = next(&setup.stdout)
            _ = next(&setup.stderr)
        }
        setup.run()
    }
}

extension Agent {
    /// Makes the child that waits. A guest without one starts a new child each time.
    func prepareChild() throws(AgentFailure) {
        try Cgroup.prepare()
        guard let cgroup = Cgroup.spare, waiting == nil else { return }
        let (socket, childSocket) = try ChildStdio.socketPair()
        _ = guest_mount(nil, "/run", nil, UInt(MS_SHARED), nil)
        let folder = guest_open(cgroup, O_PATH | O_DIRECTORY, 0)
        var pidfd: Int32 = -1
        let pid = guest_clone(UInt64(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWIPC), folder, &pidfd)
        if pid == 0 { WaitingChild.wait(childSocket, agentsEnd: socket) }
        if folder >= 0 { close(folder) }
        close(childSocket)
        guard pid > 0 else {
            close(socket)
            throw AgentFailure(.resources, "preparing a process in the guest: \(KernelError(-pid).words)", errno: -pid)
        }
        waiting = WaitingChild(pid: pid, pidfd: pidfd, socket: socket, cgroup: cgroup)
    }

    /// The child that waits, if it can become this process; else it ends. Either way there is none any more.
    func takeWaiting(for container: Container, _ process: [UInt8]) -> WaitingChild? {
        guard let child = waiting else { return nil }
        let configuration = container.configuration
        // Without a name of its own a container has the guest's, which it got since.
        guard container.cgroup.path == child.cgroup, configuration.pidNamespaceOf.utf8.isEmpty,
            configuration.ipcNamespaceOf.utf8.isEmpty, !configuration.hostname.utf8.isEmpty,
            !container.message.isEmpty, process.count <= WaitingChild.room
        else {
            abandonWaiting()
            return nil
        }
        waiting = nil
        makeMountsPrivate()
        return child
    }

    /// Ends the child that waits.
    func abandonWaiting() {
        guard let child = waiting else { return }
        waiting = nil
        _ = guest_pidfd_signal(child.pidfd, SIGKILL)
        // Gone for sure: what comes into its cgroup next must not count with it.
        _ = waitpid(child.pid, nil, 0)
        close(child.pidfd)
        close(child.socket)
        makeMountsPrivate()
    }

    /// Mounts of the agent's are seen by nobody any more who comes.
    private func makeMountsPrivate() { _ = guest_mount(nil, "/run", nil, UInt(MS_PRIVATE | MS_REC), nil) }
}
