import AgentProtocol
import CGuest

extension Agent {
    /// Carries out a request and answers it.
    func answer(_ kind: RequestKind, _ frame: Frame) {
        let header = frame.header
        allowLogging()
        if !isPrepared, kind != .hello, kind != .ping {
            isPrepared = true
            Boot.prepareForContainers()
        }
        do throws(AgentFailure) {
            switch kind {
            case .hello: try hello(header, read(frame))
            case .ping: reply(header, Clock.reading())
            case .quiesce: quiesce(header)
            case .setClock:
                try Clock.apply(read(frame))
                reply(header, Clock.reading())
            case .configureSandbox:
                try configure(read(frame))
                reply(header, Done())
            case .setIdentity:
                let identity: Identity = try read(frame)
                try Guest.identify(identity, since: arrival)
                for changed in identity.containers { try rename(changed) }
                standStill(false)
                reply(header, Done())
            case .createContainer:
                try create(read(frame), frame.payload)
                reply(header, Done())
            case .startProcess: try start(header, read(frame), frame.payload)
            case .signal:
                try signal(read(frame))
                reply(header, Done())
            case .resize:
                try resize(read(frame))
                reply(header, Done())
            case .closeProcess:
                let reference: ProcessReference = try read(frame)
                if let process = processes[reference.process] { discard(process) }
                reply(header, Done())
            case .closeOutput:
                let reference: OutputReference = try read(frame)
                if let process = processes[reference.process] { closeOutput(process, reference.isError ? .error : .output) }
                reply(header, Done())
            case .processes:
                let reference: ContainerReference = try read(frame)
                reply(header, ProcessTable.list(try container(reference.container).cgroup))
            case .updateContainer:
                let request: UpdateRequest = try read(frame)
                try container(request.container).cgroup.apply(request.limits, isNew: false)
                reply(header, Done())
            case .stats:
                let reference: ContainerReference = try read(frame)
                reply(header, try container(reference.container).cgroup.statistics())
            case .removeContainer:
                let reference: ContainerReference = try read(frame)
                let gone = try container(reference.container)
                gone.remove(self)
                containers[reference.container] = nil
                if gone.configuration.root.isRehearsal {
                    try leaveRehearsal(of: gone.configuration.root)
                } else {
                    leaveDisks(of: gone.configuration.root)
                    // The machine stays for the next one, whose files another server has.
                    if containers.isEmpty { try leaveShare() }
                }
                reply(header, Done())
            case .releaseProcess: try release(header, read(frame))
            case .reclaim:
                do throws(KernelError) { try TextFile.write("/proc/sys/vm/drop_caches", "2") } catch {
                    throw AgentFailure(.other, "dropping cached inodes: \(error.words)", errno: error.number)
                }
                reply(header, Done())
            case .resizeMachine:
                try Processors.resize(read(frame))
                reply(header, Done())
            case .shutdown:
                shuttingDown = try read(frame)
                reply(header, Done())
            }
        } catch {
            fail(header, error)
        }
    }

    private func read<M: WireMessage>(_ frame: Frame) throws(AgentFailure) -> M {
        do throws(WireError) { return try M(decoding: frame.payload, elements: Limits.elements) } catch {
            throw AgentFailure(.invalid, "request \(frame.header.type) cannot be read by this agent")
        }
    }

    /// A container by its name.
    func container(_ id: String) throws(AgentFailure) -> Container {
        guard let container = containers[id] else { throw AgentFailure(.unknown, "the guest has no container \"\(id)\"") }
        return container
    }

    private func hello(_ header: FrameHeader, _ hello: Hello) throws(AgentFailure) {
        guard hello.oldest <= Hello.version, hello.newest >= 1 else {
            throw AgentFailure(
                .version,
                "the agent speaks protocol 1 to \(Hello.version), the host \(hello.oldest) to \(hello.newest)")
        }
        session.greet()
        if !hello.keepsStill { standStill(false) }
        reply(header, state(version: min(hello.newest, Hello.version)))
        repeatCredit()
        pumpAll()
        for process in Array(processes.values) { finish(process) }
    }

    private func state(version: UInt32) -> AgentState {
        var state = AgentState()
        state.version = version
        state.kernel = Guest.kernelRelease()
        state.isConfigured = isConfigured
        state.processes = processes.values.map { $0.state }
        state.uptime = guest_clock(CLOCK_BOOTTIME)
        return state
    }

    /// Stands containers still, says where every stream is, and nothing more until the next hello.
    private func quiesce(_ header: FrameHeader) {
        sync()
        standStill(true)
        // Where the kernel takes part in being saved, it gives up when a process waits for a file whose server does not answer any more.
        if isStill, port.isMemory, !share.utf8.isEmpty, !Cgroup.awaitFrozen() {
            standStill(false)
            return fail(header, AgentFailure(.other, "a process of a container does not stand still: it waits for something"))
        }
        reply(header, state(version: Hello.version))
        session.silence()
    }

    /// Freezes what runs in containers, or lets it go on: in a copy of this machine nothing of theirs is to run before it knows who it is.
    private func standStill(_ still: Bool) {
        // A child that only waits is nobody's.
        guard isStill != still, !still || !containers.isEmpty else { return }
        isStill = still
        _ = try? TextFile.write(Cgroup.parent + "/cgroup.freeze", still ? "1" : "0")  // no container, no such cgroup
    }

    /// Gives a container another host name, and files that came with it another content.
    private func rename(_ changed: ContainerIdentity) throws(AgentFailure) {
        let container = try container(changed.container)
        if !changed.hostname.utf8.isEmpty, let number = container.initProcess, let process = processes[number] {
            do throws(KernelError) {
                let home = try Descriptor("/proc/self/ns/uts", O_RDONLY)
                let there = try Descriptor("/proc/\(process.pid)/ns/uts", O_RDONLY)
                try KernelError.check(guest_setns(there.number, Int32(CLONE_NEWUTS)))
                let name = Array(changed.hostname.utf8)
                let done = name.withUnsafeBytes { sethostname($0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count) }
                let failure = guest_errno()
                try KernelError.check(guest_setns(home.number, Int32(CLONE_NEWUTS)))
                if done < 0 { throw KernelError(failure) }
            } catch {
                throw AgentFailure(
                    .other, "setting the host name \"\(changed.hostname)\" in a container: \(error.words)", errno: error.number)
            }
        }
        for file in changed.files { try container.rewrite(file) }
    }

    private func configure(_ configuration: SandboxConfiguration) throws(AgentFailure) {
        if let modules = configuration.modules, !modules.device.utf8.isEmpty {
            let release = Guest.kernelRelease()
            try? Mounting.makeDirectory("/lib")  // a failure shows in the mount
            try? Mounting.makeDirectory("/lib/modules")  // as above
            let target = "/lib/modules/" + release
            try Mounting.makeDirectory(target)
            do throws(AgentFailure) {
                try Mounting.mount(
                    try Disks.device(modules.device), target, modules.type, UInt(MS_RDONLY | MS_NOSUID | MS_NODEV))
            } catch {
                // Everything works but what the kernel would load on demand.
                log("no kernel module can be loaded on demand: \(error.message)")
            }
        }
        for disk in configuration.disks {
            let target = try mountDisk(disk, readOnly: false)
            try Mounting.makeDirectory(target + "/upper")
            try Mounting.makeDirectory(target + "/work")
        }
        if !configuration.share.utf8.isEmpty {
            let target = Boot.directory + "/share"
            if configuration.shareIsRelayed {
                try ShareRelay.mount(configuration.share, at: target)
            } else {
                try Mounting.mount(configuration.share, target, "virtiofs")
            }
            share = target
        }
        try Guest.identify(configuration.identity, since: arrival)
        for setting in configuration.sysctls { try Guest.set(setting) }
        if configuration.prepares { try prepareChild() }
        isConfigured = true
    }

    /// Mounts a disk once; returns where.
    func mountDisk(_ disk: DiskConfiguration, readOnly: Bool) throws(AgentFailure) -> String {
        if let there = disks[disk.device] { return there }
        var number = disks.count
        while disks.values.contains(Boot.directory + "/disks/\(number)") { number += 1 }
        let target = Boot.directory + "/disks/\(number)"
        try Mounting.makeDirectory(target)
        try Mounting.mount(try Disks.device(disk.device), target, disk.type, readOnly ? UInt(MS_RDONLY) : 0)
        disks[disk.device] = target
        return target
    }

    /// Leaves the disks of a container that is gone as if it had not been. Another image may be on the lower one next, so nothing of the kernel's may
    /// know it any more; what its processes saw goes a moment after them.
    private func leaveRehearsal(of root: RootConfiguration) throws(AgentFailure) {
        if let upper = root.upper, let place = disks[upper.device] { Directory.remove(place + "/" + Container.rehearsal) }
        try leaveShare()
        guard let place = disks[root.lower.device] else { return }
        _ = umount2(place, 0)
        disks[root.lower.device] = nil
        _ = rmdir(place)
        let device = try Disks.device(root.lower.device)
        for _ in 0..<500 {
            let file = guest_open(device, O_RDONLY | O_EXCL, 0)
            if file >= 0 {
                close(file)
                return
            }
            usleep(2000)
        }
        throw AgentFailure(.other, "the disk \(root.lower.device) of a rehearsal is still in use")
    }

    /// Lets go of the share, so that the next who mounts it begins anew with its server.
    private func leaveShare() throws(AgentFailure) {
        if share.utf8.isEmpty { return }
        _ = umount2(share, Int32(MNT_DETACH))
        share = ""
        // Where the kernel shows the connections to such servers: each goes with its file system.
        let connections = "/sys/fs/fuse/connections"
        _ = guest_mount("fusectl", connections, "fusectl", 0, nil)
        defer { _ = umount2(connections, 0) }
        for _ in 0..<500 {
            if !Directory.names(connections).contains(where: { Scan.whole($0) != nil }) { return }
            usleep(2000)
        }
        throw AgentFailure(.other, "the share is still in use")
    }

    /// Unmounts the disks of a container that is gone, which may be taken away now, where no other has them.
    private func leaveDisks(of root: RootConfiguration) {
        guard root.kind == .overlay, let upper = root.upper else { return }
        for device in [root.lower.device, upper.device] {
            let isUsed = containers.values.contains {
                $0.configuration.root.lower.device == device || $0.configuration.root.upper?.device == device
            }
            guard !isUsed, let place = disks[device], umount2(place, 0) == 0 else { continue }
            disks[device] = nil
            _ = rmdir(place)
        }
    }

    private func create(_ configuration: ContainerConfiguration, _ message: [UInt8]) throws(AgentFailure) {
        guard Container.isGood(configuration.id) else {
            throw AgentFailure(.invalid, "\"\(configuration.id)\" cannot be a container's name in the guest")
        }
        guard containers[configuration.id] == nil else {
            throw AgentFailure(.exists, "the guest has a container \"\(configuration.id)\" already")
        }
        guard containers.count < 256 else { throw AgentFailure(.resources, "the guest has 256 containers already") }
        let index = (containers.values.map { $0.index }.max() ?? 0) + 1
        do throws(AgentFailure) {
            let made = try Container(configuration, index: index, agent: self)
            if waiting != nil, message.count <= WaitingChild.room { made.message = message }
            containers[configuration.id] = made
        } catch {
            Container.discard(configuration.id)
            throw error
        }
    }

    private func signal(_ request: SignalRequest) throws(AgentFailure) {
        if request.process == 0 {
            let cgroup = try container(request.container).cgroup
            if request.signal == UInt32(SIGKILL) { return cgroup.killAll() }
            for pid in cgroup.pids() { _ = kill(pid, Int32(truncatingIfNeeded: request.signal)) }
            return
        }
        guard let process = processes[request.process], process.exit == nil else {
            throw AgentFailure(.unknown, "the process has ended")
        }
        let done = guest_pidfd_signal(process.pidfd.number, Int32(truncatingIfNeeded: request.signal))
        if done < 0 { throw AgentFailure(.other, "sending signal \(request.signal): \(KernelError(-done).words)", errno: -done) }
    }

    /// Lets a held process go; it is answered when its program runs, like its start.
    private func release(_ header: FrameHeader, _ reference: ProcessReference) throws(AgentFailure) {
        guard let process = processes[reference.process], process.exit == nil, process.pendingRequest == nil,
            let socket = process.start?.number
        else { throw AgentFailure(.unknown, "the process is not waiting to be released") }
        process.pendingRequest = header.id
        process.pendingKind = .releaseProcess
        let mark: [UInt8] = [71]
        _ = mark.withUnsafeBytes { guest_send(socket, $0.baseAddress, $0.count, -1) }  // a dead one is reaped, which answers
    }

    private func resize(_ request: ResizeRequest) throws(AgentFailure) {
        guard let process = processes[request.process], process.hasTerminal, let output = process.output?.number else {
            throw AgentFailure(.unknown, "the process has no terminal")
        }
        _ = guest_set_window(output, request.rows, request.columns)
    }

    /// The host wants no more of the process's output; it must not stand still for that.
    private func discard(_ process: Process) {
        process.discards = true
        process.inputEnds = true
        process.inputQueue.removeAll()
        if !process.hasTerminal { closeInput(process) }
        pump(process, .output)
        pump(process, .error)
    }
}
