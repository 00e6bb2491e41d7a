import AgentProtocol
import CGuest

/// Builds a container's view of the file system in the child's own mount namespace, and moves into it.
struct ContainerRoot {
    let container: ContainerConfiguration
    /// The root as mounted by the agent.
    let path: String
    /// Where the share is mounted, empty for none.
    let share: String
    /// Where the agent wrote the files that are bound over the root.
    var files = ""
    /// Where its sockets are.
    var sockets = ""
    /// Its cgroup's folder.
    var cgroup = ""

    /// Mounts everything, changes the root, sets what must be set before the process runs.
    func build() throws(AgentFailure) {
        let root = try RootPaths(path)
        if container.privileged { showModules(root) }
        for mount in container.mounts { try add(mount, root) }
        for (number, file) in container.files.enumerated() { try bindFile(number, file, root) }
        for setting in container.sysctls { try Guest.set(setting) }
        let null = guest_open("/dev/null", O_PATH, 0)
        for path in container.readOnlyPaths { try makeReadOnly(path, root) }
        for path in container.maskedPaths { try mask(path, null, root) }
        if null >= 0 { close(null) }
        try bindDevices()
        try enter(root)
    }

    /// From here on the container's device rules hold, which its mounts of disks need not fulfil.
    private func bindDevices() throws(AgentFailure) {
        let program = container.deviceProgram
        if program.isEmpty { return }
        let folder = guest_open(cgroup, O_RDONLY | O_DIRECTORY, 0)
        let done = program.withUnsafeBytes {
            guest_bind_devices(folder, $0.baseAddress, UInt32(truncatingIfNeeded: $0.count / 8))
        }
        if folder >= 0 { close(folder) }
        if done < 0 {
            throw AgentFailure(
                .cgroup, "applying the device rules (the guest's kernel needs CONFIG_CGROUP_BPF): \(KernelError(-done).words)",
                errno: -done)
        }
    }

    /// The kernel's modules, for a container that may load them; a mount of the user's at the same place comes later and wins.
    private func showModules(_ root: borrowing RootPaths) {
        let place = "/lib/modules"
        // No modules on the machine, or no place for them in a root that is read-only: no failure of the container.
        guard !Directory.names(place).isEmpty, let target = try? root.makeDirectory(place) else { return }
        defer { close(target) }
        let shown = guest_mount(place, Mounting.path(of: target), nil, UInt(MS_BIND | MS_REC), nil)
        guard shown == 0 else { return }
        try? remount(place, UInt(MS_RDONLY), root)  // the modules' disk itself is read-only in any case
    }

    private func failure(_ mount: MountConfiguration, _ error: KernelError) -> AgentFailure {
        AgentFailure(
            .mount,
            "error mounting \"\(mount.source)\" to rootfs at \"\(mount.destination)\": \(error.words)", errno: error.number)
    }

    private func add(_ mount: MountConfiguration, _ root: borrowing RootPaths) throws(AgentFailure) {
        do throws(KernelError) {
            switch mount.kind {
            case .share:
                let tree = try openShare()
                // A folder as one: only so the kernel steps onto what the server announces as a mount of its own. Below it there would be
                // another inode, of which watches hear nothing.
                var opened = guest_open_in_root(tree.number, mount.source, O_PATH | O_DIRECTORY, 0)
                if opened == -ENOTDIR { opened = guest_open_in_root(tree.number, mount.source, O_PATH, 0) }
                let source = Descriptor(owning: try KernelError.check(opened))
                try bind(source.number, mount, root)
            case .socket:
                let source = try Descriptor(sockets + "/" + mount.source, O_PATH)
                try bind(source.number, mount, root)
            case .bind:
                let source = Descriptor(owning: try root.open(mount.source, O_PATH))
                try bind(source.number, mount, root)
            case .tmpfs: try mountNew("tmpfs", mount.source.utf8.isEmpty ? "tmpfs" : mount.source, mount, root)
            case .proc: try mountNew("proc", "proc", mount, root)
            case .sysfs: try mountNew("sysfs", "sysfs", mount, root)
            case .devpts: try mountNew("devpts", "devpts", mount, root)
            case .mqueue: try mountNew("mqueue", "mqueue", mount, root)
            case .cgroup2: try mountNew("cgroup2", "cgroup", mount, root)
            case .disk: try mountNew(mount.type, mount.source, mount, root)
            case .other: try mountNew(mount.type, mount.source, mount, root)
            case .dev:
                try mountNew("tmpfs", "tmpfs", mount, root)
                let folder = Descriptor(owning: try root.open(mount.destination, O_RDONLY | O_DIRECTORY))
                DeviceNodes.fill(folder.number, privileged: container.privileged)
                for device in container.devices { try DeviceNodes.make(device, root) }
            }
        } catch {
            throw failure(mount, error)
        }
    }

    private func openShare() throws(KernelError) -> Descriptor {
        guard !share.utf8.isEmpty else { throw KernelError(ENODEV) }
        return try Descriptor(share, O_PATH | O_DIRECTORY)
    }

    private func mountNew(
        _ type: String, _ source: String, _ mount: MountConfiguration, _ root: borrowing RootPaths
    ) throws(KernelError) {
        var image: Int32 = -1
        if mount.copyUp { image = (try? root.open(mount.destination, O_RDONLY | O_DIRECTORY)) ?? -1 }  // nothing to copy then
        defer { if image >= 0 { close(image) } }
        let target = Descriptor(owning: try root.makeDirectory(mount.destination))
        let data = Array(mount.data.utf8) + [0]
        let readOnly = UInt(mount.flags) & UInt(MS_RDONLY)
        // What is to be filled is made read-only afterwards.
        let flags = UInt(mount.flags) & ~(image >= 0 || mount.kind == .dev ? UInt(MS_RDONLY) : 0)
        let done = data.withUnsafeBytes { bytes in
            guest_mount(
                source, Mounting.path(of: target.number), type, flags,
                mount.data.utf8.isEmpty ? nil : bytes.baseAddress?.assumingMemoryBound(to: CChar.self))
        }
        try KernelError.check(done)
        if image >= 0 {
            let fresh = Descriptor(owning: try root.open(mount.destination, O_RDONLY | O_DIRECTORY))
            // A disk keeps what it has.
            if mount.kind != .disk || CopyUp.isEmpty(fresh.number) { try CopyUp.copy(from: image, to: fresh.number) }
            if readOnly != 0 { try remount(mount.destination, UInt(mount.flags), root) }
        }
        try propagate(mount, root)
    }

    private func bind(_ source: Int32, _ mount: MountConfiguration, _ root: borrowing RootPaths) throws(KernelError) {
        var status = stat()
        guard fstat(source, &status) == 0 else { throw KernelError(guest_errno()) }
        let isDirectory = status.st_mode & UInt32(S_IFMT) == UInt32(S_IFDIR)
        // Where the image has no such directory, there is nothing to copy.
        if mount.copyUp, isDirectory, let image = try? root.open(mount.destination, O_RDONLY | O_DIRECTORY) {
            defer { close(image) }
            let into = Descriptor(owning: try KernelError.check(guest_open(Mounting.path(of: source), O_RDONLY | O_DIRECTORY, 0)))
            if CopyUp.isEmpty(into.number) { try CopyUp.copy(from: image, to: into.number) }
        }
        let number = isDirectory ? try root.makeDirectory(mount.destination) : try root.makeFile(mount.destination)
        let target = Descriptor(owning: number)
        let recursive = UInt(mount.flags) & UInt(MS_REC)
        try KernelError.check(
            guest_mount(
                Mounting.path(of: source), Mounting.path(of: target.number), nil, UInt(MS_BIND) | recursive, nil))
        let kept =
            UInt(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
            | UInt(MS_NOATIME | MS_NODIRATIME | MS_RELATIME)
        if UInt(mount.flags) & kept != 0 { try remount(mount.destination, UInt(mount.flags) & kept, root) }
        try propagate(mount, root)
    }

    /// Gives the mount at a path new flags; what it has already stays.
    private func remount(_ path: String, _ flags: UInt, _ root: borrowing RootPaths) throws(KernelError) {
        let there = Descriptor(owning: try root.open(path, O_PATH))
        var information = statfs()
        var all = flags
        if fstatfs(there.number, &information) == 0 { all |= UInt(information.f_flags) & 0xF }
        try KernelError.check(
            guest_mount(nil, Mounting.path(of: there.number), nil, UInt(MS_REMOUNT | MS_BIND) | all, nil))
    }

    private func propagate(_ mount: MountConfiguration, _ root: borrowing RootPaths) throws(KernelError) {
        guard mount.propagation != 0 else { return }
        let there = Descriptor(owning: try root.open(mount.destination, O_PATH))
        try KernelError.check(guest_mount(nil, Mounting.path(of: there.number), nil, UInt(mount.propagation), nil))
    }

    private func bindFile(_ number: Int, _ file: FileConfiguration, _ root: borrowing RootPaths) throws(AgentFailure) {
        do throws(KernelError) {
            let target = Descriptor(owning: try root.makeFile(file.path))
            try KernelError.check(
                guest_mount("\(files)/\(number)", Mounting.path(of: target.number), nil, UInt(MS_BIND), nil))
        } catch {
            // A root that is read-only on the host and has no such file does without it.
            if error.number == EROFS, container.root.readOnly { return }
            throw AgentFailure(.mount, "mounting over \"\(file.path)\": \(error.words)", errno: error.number)
        }
    }

    private func makeReadOnly(_ path: String, _ root: borrowing RootPaths) throws(AgentFailure) {
        guard let there = try? root.open(path, O_PATH) else { return }  // a path that is not there needs no protection
        let target = Descriptor(owning: there)
        do throws(KernelError) {
            let name = Mounting.path(of: target.number)
            try KernelError.check(guest_mount(name, name, nil, UInt(MS_BIND | MS_REC), nil))
            try remount(path, UInt(MS_RDONLY), root)
        } catch {
            throw AgentFailure(.mount, "making \"\(path)\" read-only: \(error.words)", errno: error.number)
        }
    }

    private func mask(_ path: String, _ null: Int32, _ root: borrowing RootPaths) throws(AgentFailure) {
        guard let there = try? root.open(path, O_PATH) else { return }  // as above
        let target = Descriptor(owning: there)
        var status = stat()
        guard fstat(target.number, &status) == 0 else { return }
        let name = Mounting.path(of: target.number)
        if status.st_mode & UInt32(S_IFMT) == UInt32(S_IFDIR) {
            try Mounting.mount("tmpfs", name, "tmpfs", UInt(MS_RDONLY), "size=0k", shown: path)
        } else {
            try Mounting.mount(Mounting.path(of: null), name, nil, UInt(MS_BIND), shown: path)
        }
    }

    /// Makes the root the container's own; the guest's disappears from it.
    private func enter(_ root: borrowing RootPaths) throws(AgentFailure) {
        func check(_ what: String, _ done: Int32) throws(AgentFailure) {
            if done < 0 { throw AgentFailure(.mount, "\(what): \(KernelError(-done).words)", errno: -done) }
        }
        try check("entering the root", fchdir(root.root.number) < 0 ? -guest_errno() : 0)
        try check("changing the root", guest_pivot_root(".", "."))
        try check("leaving the guest's root", umount2(".", Int32(MNT_DETACH)) < 0 ? -guest_errno() : 0)
        _ = chdir("/")
        if container.rootPropagation != 0 {
            try check("setting the root's propagation", guest_mount(nil, "/", nil, UInt(container.rootPropagation), nil))
        }
        if container.root.readOnly {
            try check(
                "making the root read-only",
                guest_mount(nil, "/", nil, UInt(MS_REMOUNT | MS_BIND | MS_RDONLY), nil))
        }
    }
}
