import CSeccomp
import Glibc
import LinuxSystem

/// Hull's default seccomp profile for a container's processes: everything is allowed but what a container has no use for and what
/// its capabilities do not cover, the same calls that engines refuse by default. In a machine of its own this is a second wall,
/// between the container and its guest's kernel. Compiled on the host by libseccomp (seccomp_rule_add(3)), loaded by the agent.
enum Seccomp {
    /// Refused (EPERM) unless the container has the capability beside it; nil: always refused.
    static let refused: [(call: String, unless: String?)] = [
        ("acct", "SYS_PACCT"), ("add_key", nil), ("bpf", "BPF"), ("clock_adjtime", "SYS_TIME"),
        ("clock_settime", "SYS_TIME"),
        ("create_module", nil), ("delete_module", "SYS_MODULE"), ("fanotify_init", "SYS_ADMIN"),
        ("finit_module", "SYS_MODULE"),
        ("fsconfig", "SYS_ADMIN"), ("fsmount", "SYS_ADMIN"), ("fsopen", "SYS_ADMIN"),
        ("fspick", "SYS_ADMIN"), ("get_kernel_syms", nil),
        ("get_mempolicy", "SYS_NICE"), ("init_module", "SYS_MODULE"), ("io_uring_enter", "SYS_ADMIN"),
        ("io_uring_register", "SYS_ADMIN"),
        ("io_uring_setup", "SYS_ADMIN"), ("ioperm", "SYS_RAWIO"), ("iopl", "SYS_RAWIO"),
        ("kcmp", "SYS_PTRACE"),
        ("kexec_file_load", "SYS_BOOT"), ("kexec_load", "SYS_BOOT"), ("keyctl", nil),
        ("lookup_dcookie", "SYS_ADMIN"),
        ("mbind", "SYS_NICE"), ("mount", "SYS_ADMIN"), ("mount_setattr", "SYS_ADMIN"),
        ("move_mount", "SYS_ADMIN"), ("move_pages", nil),
        ("nfsservctl", nil), ("open_by_handle_at", "DAC_READ_SEARCH"), ("open_tree", "SYS_ADMIN"),
        ("perf_event_open", "PERFMON"),
        ("pivot_root", nil), ("query_module", nil), ("quotactl", "SYS_ADMIN"),
        ("quotactl_fd", "SYS_ADMIN"), ("reboot", "SYS_BOOT"),
        ("request_key", nil), ("set_mempolicy", "SYS_NICE"), ("setdomainname", "SYS_ADMIN"),
        ("sethostname", "SYS_ADMIN"),
        ("setns", "SYS_ADMIN"), ("settimeofday", "SYS_TIME"), ("swapoff", "SYS_ADMIN"),
        ("swapon", "SYS_ADMIN"), ("sysfs", nil),
        ("syslog", "SYSLOG"), ("umount2", "SYS_ADMIN"), ("unshare", "SYS_ADMIN"), ("uselib", nil),
        ("userfaultfd", "SYS_PTRACE"),
        ("ustat", nil), ("vhangup", "SYS_TTY_CONFIG"),
    ]

    /// The CLONE_NEW* flags of clone(2).
    private static let namespaceFlags: UInt64 = 0x7E02_0000

    /// The filter as the kernel takes it (an array of struct sock_filter), for a container with these capabilities.
    static func compile(capabilities: [String]) throws -> [UInt8] {
        guard let context = seccomp_init(0x7fff_0000 /* SCMP_ACT_ALLOW */) else {
            throw SandboxError("libseccomp cannot make a filter")
        }
        defer { seccomp_release(context) }
        func add(_ call: String, _ error: Int32, _ conditions: [scmp_arg_cmp] = []) throws {
            let number = seccomp_syscall_resolve_name(call)
            if number == -1 /* __NR_SCMP_ERROR: not known to this libseccomp */ { return }
            let action = 0x0005_0000 | UInt32(error) & 0xffff  // SCMP_ACT_ERRNO
            let failure = conditions.withUnsafeBufferPointer {
                seccomp_rule_add_array(context, action, number, UInt32($0.count), $0.baseAddress)
            }
            if failure != 0 {
                throw SandboxError(
                    "libseccomp refuses a rule for \(call)", cause: SystemError("add a rule", code: -failure))
            }
        }
        // A binary tree instead of a list: a few comparisons for each call.
        seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2)
        for (call, unless) in refused where unless.map({ !capabilities.contains($0) }) ?? true {
            try add(call, EPERM)
        }
        if !capabilities.contains("SYS_ADMIN") {
            // Without a namespace flag: allowed. Each flag by itself is refused; clone3, whose flags no filter can see, does not exist.
            for bit in 0..<32 where namespaceFlags >> bit & 1 == 1 {
                let flag = UInt64(1) << bit
                try add(
                    "clone", EPERM,
                    [scmp_arg_cmp(arg: 0, op: SCMP_CMP_MASKED_EQ, datum_a: flag, datum_b: flag)])
            }
            try add("clone3", ENOSYS)
        }
        return try export(context)
    }

    static func export(_ context: scmp_filter_ctx) throws -> [UInt8] {
        let (read, write) = try makePipe()
        // At most 4096 instructions of 8 bytes: it fits into a pipe.
        try checked("grow a pipe") { fcntl(write.raw, 1031 /* F_SETPIPE_SZ */, 1 << 16) }
        let failure = seccomp_export_bpf(context, write.raw)
        if failure != 0 {
            throw SandboxError(
                "libseccomp cannot write its filter", cause: SystemError("export", code: -failure))
        }
        try setNonBlocking(read.raw)
        return [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
            count = max(0, Glibc.read(read.raw, buffer.baseAddress, 1 << 16))
        }
    }
}
