import AgentProtocol

extension Planner {
    /// mount(2)'s flags.
    enum Flags {
        static let readOnly: UInt64 = 1
        static let noSuid: UInt64 = 2
        static let noDevices: UInt64 = 4
        static let noExec: UInt64 = 8
        static let relatime: UInt64 = 1 << 21
    }

    /// Docker's, which images expect: runtime-spec, config-linux.md "Default Filesystems".
    var standardMounts: [MountConfiguration] {
        let closed = Flags.noSuid | Flags.noDevices | Flags.noExec
        let sys = record.privileged ? closed : closed | Flags.readOnly
        return [
            Self.mount("/proc", .proc, flags: closed, source: "proc"),
            Self.mount("/dev", .dev, flags: Flags.noSuid, source: "tmpfs", data: "mode=755,size=65536k"),
            Self.mount(
                "/dev/pts", .devpts, flags: Flags.noSuid | Flags.noExec, source: "devpts",
                data: "newinstance,ptmxmode=0666,mode=0620,gid=5"),
            Self.mount("/sys", .sysfs, flags: sys, source: "sysfs"),
            Self.mount("/sys/fs/cgroup", .cgroup2, flags: sys, source: "cgroup"),
            Self.mount("/dev/mqueue", .mqueue, flags: closed, source: "mqueue"),
            Self.mount(
                "/dev/shm", .tmpfs, flags: closed, source: "shm",
                data: "mode=1777,size=\(record.resources.shm)"),
        ]
    }

    static func mount(
        _ destination: String, _ kind: MountKind, flags: UInt64, source: String, type: String = "",
        data: String = ""
    ) -> MountConfiguration {
        var mount = MountConfiguration()
        mount.destination = destination
        mount.kind = kind
        mount.flags = flags
        mount.source = source
        mount.type = type
        mount.data = data
        return mount
    }

    func mountConfiguration(_ index: Int, _ resolved: ResolvedMount) -> MountConfiguration {
        let mount = resolved.mount
        var flags: UInt64 = mount.readOnly ? Flags.readOnly : 0
        if mount.options.contains("noexec") { flags |= Flags.noExec }
        if mount.options.contains("nosuid") { flags |= Flags.noSuid }
        if mount.options.contains("nodev") { flags |= Flags.noDevices }
        switch mount.source {
        case .tmpfs(let size, let mode):
            if !mount.options.contains("exec") { flags |= Flags.noExec }
            if !mount.options.contains("suid") { flags |= Flags.noSuid }
            if !mount.options.contains("dev") { flags |= Flags.noDevices }
            let data = ["mode=\(String(mode ?? 0o1777, radix: 8))"] + (size.map { ["size=\($0)"] } ?? [])
            return Self.mount(
                mount.destination, .tmpfs, flags: flags, source: "tmpfs", data: data.joined(separator: ","))
        case .bind where resolved.socket != nil:
            var configuration = Self.mount(mount.destination, .socket, flags: flags, source: "\(index)")
            configuration.socket = resolved.socket?.configuration
            return configuration
        case .bind, .volume:
            var configuration = Self.mount(mount.destination, .share, flags: flags, source: "m\(index)")
            configuration.isFile = resolved.isFile
            configuration.copyUp = mount.copy && !mount.readOnly
            return configuration
        }
    }

    /// What could tell or change too much; Docker's list.
    static let maskedPaths = [
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
        "/proc/latency_stats", "/proc/sched_debug",
        "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]
    static let readOnlyPaths = [
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
    ]
}
