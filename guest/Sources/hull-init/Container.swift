import AgentProtocol
import CGuest

/// A container: its root, mounted and ready, its cgroup, and its init process.
final class Container {
    let configuration: ContainerConfiguration
    /// A number for the event loop.
    let index: UInt64
    /// The directory of the agent's for it.
    let directory: String
    /// Its root as the agent sees it.
    let rootPath: String
    let cgroup: Cgroup
    /// What the host said of it, as long as a child waits to be told.
    var message: [UInt8] = []
    /// Where the agent listens for the host, by the number that a mount gave.
    private(set) var sockets: [Socket] = []

    struct Socket {
        let number: UInt64
        let listener: Int32
        let isDatagram: Bool
    }
    /// The host's number of the init process while it runs.
    var initProcess: UInt64?
    var reportedKills: UInt64 = 0
    private let memoryEvents: Int32

    /// Mounts the root and makes the cgroup.
    init(_ configuration: ContainerConfiguration, index: UInt64, agent: Agent) throws(AgentFailure) {
        self.configuration = configuration
        self.index = index
        directory = Boot.directory + "/containers/" + configuration.id
        rootPath = directory + "/root"
        try Mounting.makeDirectory(directory)
        try Mounting.makeDirectory(rootPath)
        cgroup = try Cgroup(configuration.id)
        try cgroup.apply(configuration.limits, isNew: true)
        let events = guest_open(cgroup.path + "/memory.events", O_RDONLY, 0)
        memoryEvents = events
        try Self.mountRoot(configuration.root, at: rootPath, in: directory, agent)
        try writeFiles()
        try listen()
        if events >= 0 { agent.loop.add(events, Ready.urgent | Ready.edge, .memory, index) }
    }

    /// How often the kernel killed in it for want of memory.
    func oomKills() -> UInt64 {
        Scan.value(of: "oom_kill", in: TextFile.read(cgroup.path + "/memory.events")) ?? 0
    }

    private static func mountRoot(
        _ root: RootConfiguration, at path: String, in directory: String, _ agent: Agent
    ) throws(AgentFailure) {
        switch root.kind {
        case .overlay:
            let lower = try agent.mountDisk(root.lower, readOnly: true)
            let upper: String
            if let disk = root.upper {
                let place = try agent.mountDisk(disk, readOnly: false)
                upper = root.isRehearsal ? place + "/" + Self.rehearsal : place
                if root.isRehearsal { try Mounting.makeDirectory(upper) }
            } else {
                upper = directory + "/upper"
                try Mounting.makeDirectory(upper)
                try Mounting.mount("upper", upper, "tmpfs", 0, "mode=0755")
            }
            try Mounting.makeDirectory(upper + "/upper")
            try Mounting.makeDirectory(upper + "/work")
            try Mounting.mount(
                "overlay", path, "overlay", 0, "lowerdir=\(lower),upperdir=\(upper)/upper,workdir=\(upper)/work", shown: "/")
        case .share:
            let share = try RootPaths(agent.share)
            do throws(KernelError) {
                let source = Descriptor(owning: try share.open(root.path, O_PATH | O_DIRECTORY))
                try KernelError.check(
                    guest_mount(Mounting.path(of: source.number), path, nil, UInt(MS_BIND | MS_REC), nil))
            } catch {
                throw AgentFailure(.mount, "mounting the share's \"\(root.path)\" as root: \(error.words)", errno: error.number)
            }
        case .disk:
            let disk = try agent.mountDisk(root.lower, readOnly: false)
            try Mounting.mount(disk, path, nil, UInt(MS_BIND), shown: "/")
        }
    }

    /// The files that will be bound over the root.
    private func writeFiles() throws(AgentFailure) {
        guard !configuration.files.isEmpty else { return }
        let folder = directory + "/files"
        try Mounting.makeDirectory(folder)
        for (number, file) in configuration.files.enumerated() {
            do throws(KernelError) {
                let made = try Descriptor("\(folder)/\(number)", O_CREAT | O_WRONLY | O_TRUNC, mode: file.mode)
                try made.writeOnce(file.content)
                try KernelError.checkErrno(fchmod(made.number, file.mode & 0o7777))
            } catch {
                throw AgentFailure(.mount, "writing the content of \"\(file.path)\": \(error.words)", errno: error.number)
            }
        }
    }

    /// Replaces the content of a file that came with it, in place: it is bound where the container sees it.
    func rewrite(_ file: FileConfiguration) throws(AgentFailure) {
        for (number, known) in configuration.files.enumerated() where known.path == file.path {
            do throws(KernelError) {
                let there = try Descriptor("\(directory)/files/\(number)", O_WRONLY | O_TRUNC)
                try there.writeOnce(file.content)
            } catch {
                throw AgentFailure(.mount, "writing the content of \"\(file.path)\": \(error.words)", errno: error.number)
            }
        }
    }

    /// Makes the sockets that stand for ones of the host; they are mounted like files.
    private func listen() throws(AgentFailure) {
        for mount in configuration.mounts where mount.kind == .socket {
            guard let number = Scan.whole(mount.source), let socket = mount.socket else {
                throw AgentFailure(.invalid, "the mount at \(mount.destination) names no socket")
            }
            try Mounting.makeDirectory(directory + "/sockets")
            let path = directory + "/sockets/\(number)"
            let listener = guest_listen(path, socket.isDatagram ? 1 : 0, socket.mode, socket.uid, socket.gid)
            if listener < 0 {
                throw AgentFailure(
                    .mount, "listening at \"\(mount.destination)\": \(KernelError(-listener).words)", errno: -listener)
            }
            sockets.append(Socket(number: number, listener: listener, isDatagram: socket.isDatagram))
        }
    }

    /// Kills what runs, unmounts, and removes the cgroup as far as it is free.
    func remove(_ agent: Agent) {
        if memoryEvents >= 0 { close(memoryEvents) }
        for socket in sockets { close(socket.listener) }
        for process in agent.processes.values where process.isRelay && process.container == configuration.id {
            _ = guest_pidfd_signal(process.pidfd.number, SIGKILL)
        }
        cgroup.killAll()
        for folder in cgroup.tree().reversed() where rmdir(folder) < 0 && guest_errno() == EBUSY { agent.dying.append(folder) }
        Self.discard(configuration.id)
    }

    /// Where a rehearsal's upper layer is, on a disk.
    static let rehearsal = ".rehearsal"

    /// Takes away what a failed creation left.
    static func discard(_ id: String) {
        let directory = Boot.directory + "/containers/" + id
        _ = umount2(directory + "/root", Int32(MNT_DETACH))
        _ = umount2(directory + "/upper", Int32(MNT_DETACH))
        for name in Directory.names(directory + "/files") { _ = unlink(directory + "/files/" + name) }
        for name in Directory.names(directory + "/sockets") { _ = unlink(directory + "/sockets/" + name) }
        for folder in ["/files", "/sockets", "/upper", "/root", ""] { _ = rmdir(directory + folder) }
        _ = rmdir(Cgroup.parent + "/" + id)
    }

    /// Whether a name can be a container's: it becomes a directory's.
    static func isGood(_ id: String) -> Bool {
        guard id.utf8.count >= 1, id.utf8.count <= 128, id.utf8.first != 46 else { return false }
        return id.utf8.allSatisfy { byte in
            (byte >= 48 && byte <= 57) || (byte >= 65 && byte <= 90) || (byte >= 97 && byte <= 122) || byte == 95 || byte == 46
                || byte == 45
        }
    }
}
