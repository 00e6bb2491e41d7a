/// Linux capabilities by name and number (capabilities(7), include/uapi/linux/capability.h).
public enum Capabilities {
    /// In the order of their numbers.
    public static let names = [
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
        "SETPCAP", "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
        "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
        "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
        "SYS_TTY_CONFIG", "MKNOD", "LEASE",
        "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
        "BLOCK_SUSPEND", "AUDIT_READ",
        "PERFMON", "BPF", "CHECKPOINT_RESTORE",
    ]

    /// What a container has unless it is told otherwise: Docker's fourteen.
    public static let standard = [
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
        "NET_RAW", "SETFCAP", "SETGID",
        "SETPCAP", "SETUID", "SYS_CHROOT",
    ]

    /// The set after `--cap-drop` and `--cap-add`, which take names with or without CAP_, and ALL.
    public static func resolve(add: [String], drop: [String], privileged: Bool) throws -> [String] {
        func normal(_ name: String) throws -> String {
            let upper = name.uppercased()
            let short = upper.hasPrefix("CAP_") ? String(upper.dropFirst(4)) : upper
            guard short == "ALL" || names.contains(short) else {
                throw SandboxError("unknown capability \"\(name)\": capabilities(7) lists them")
            }
            return short
        }
        if privileged { return names }
        let add = try add.map(normal)
        let drop = try drop.map(normal)
        var set = drop.contains("ALL") ? [] : add.contains("ALL") ? names : standard
        if !drop.contains("ALL") { set.removeAll(where: drop.contains) }
        for name in add.contains("ALL") && drop.contains("ALL") ? names : add
        where name != "ALL" && !set.contains(name) { set.append(name) }
        return set.sorted()
    }

    /// As the kernel's bit mask. Unknown names count nothing.
    public static func mask(_ set: [String]) -> UInt64 {
        set.reduce(0) { mask, name in names.firstIndex(of: name).map { mask | 1 << UInt64($0) } ?? mask
        }
    }
}
