import CSeccomp
import Glibc
import LinuxSystem
import OCISpec

extension Seccomp {
    /// The filter of a bundle's own profile, as the kernel takes it. Calls that this libseccomp does not know are left out, as runc does.
    static func compile(_ profile: SeccompProfile) throws -> [UInt8] {
        let fallback = try action(profile.defaultAction, profile.defaultErrnoRet)
        guard let context = seccomp_init(fallback) else {
            throw SandboxError("libseccomp cannot make a filter with the default action \(profile.defaultAction)", exitCode: 1)
        }
        defer { seccomp_release(context) }
        for name in profile.architectures ?? [] {
            guard let architecture = architectures[name] else { continue }
            seccomp_arch_add(context, architecture)  // the native one is there already: EEXIST
        }
        seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2)
        // The agent decides about no_new_privs itself.
        seccomp_attr_set(context, SCMP_FLTATR_CTL_NNP, 0)
        for rule in profile.syscalls ?? [] {
            let action = try action(rule.action, rule.errnoRet)
            if action == fallback { continue }
            let conditions = try (rule.args ?? []).map(condition)
            for name in rule.names {
                let number = seccomp_syscall_resolve_name(name)
                if number == -1 { continue }
                try add(context, action, number, conditions, name)
            }
        }
        return try export(context)
    }

    /// The flags of seccomp(2) that it asks for.
    static func flags(_ profile: SeccompProfile) -> UInt64 {
        let known: [String: UInt64] = [
            "SECCOMP_FILTER_FLAG_TSYNC": 1, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
        ]
        return (profile.flags ?? []).reduce(0) { $0 | (known[$1] ?? 0) }
    }

    private static func add(
        _ context: scmp_filter_ctx, _ action: UInt32, _ number: Int32, _ conditions: [scmp_arg_cmp], _ name: String
    ) throws {
        // Several conditions on one argument are alternatives, as in runc: a rule each.
        let arguments = conditions.map(\.arg)
        let groups = Set(arguments).count < arguments.count ? conditions.map { [$0] } : [conditions]
        for group in groups {
            let failure = group.withUnsafeBufferPointer {
                seccomp_rule_add_array(context, action, number, UInt32($0.count), $0.baseAddress)
            }
            if failure != 0 && failure != -EEXIST {
                throw SandboxError(
                    "libseccomp refuses a rule for \(name)", exitCode: 1, cause: SystemError("add a rule", code: -failure))
            }
        }
    }

    private static func condition(_ condition: SeccompProfile.Condition) throws -> scmp_arg_cmp {
        let kinds: [String: scmp_compare] = [
            "SCMP_CMP_NE": SCMP_CMP_NE, "SCMP_CMP_LT": SCMP_CMP_LT, "SCMP_CMP_LE": SCMP_CMP_LE, "SCMP_CMP_EQ": SCMP_CMP_EQ,
            "SCMP_CMP_GE": SCMP_CMP_GE, "SCMP_CMP_GT": SCMP_CMP_GT, "SCMP_CMP_MASKED_EQ": SCMP_CMP_MASKED_EQ,
        ]
        guard let kind = kinds[condition.op] else {
            throw SandboxError("unknown comparison \"\(condition.op)\" in the seccomp profile", exitCode: 1)
        }
        return scmp_arg_cmp(arg: condition.index, op: kind, datum_a: condition.value, datum_b: condition.valueTwo ?? 0)
    }

    private static func action(_ name: String, _ error: UInt32?) throws -> UInt32 {
        switch name {
        case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD": return 0
        case "SCMP_ACT_KILL_PROCESS": return 0x8000_0000
        case "SCMP_ACT_TRAP": return 0x0003_0000
        case "SCMP_ACT_ERRNO": return 0x0005_0000 | (error ?? UInt32(EPERM)) & 0xffff
        case "SCMP_ACT_TRACE": return 0x7ff0_0000 | (error ?? UInt32(EPERM)) & 0xffff
        case "SCMP_ACT_ALLOW": return 0x7fff_0000
        case "SCMP_ACT_LOG": return 0x7ffc_0000
        default: throw SandboxError("unknown action \"\(name)\" in the seccomp profile", exitCode: 1)
        }
    }

    private static let architectures: [String: UInt32] = [
        "SCMP_ARCH_X86": 0x4000_0003, "SCMP_ARCH_X86_64": 0xC000_003E, "SCMP_ARCH_X32": 0x4000_003E,
        "SCMP_ARCH_AARCH64": 0xC000_00B7, "SCMP_ARCH_ARM": 0x4000_0028,
    ]
}
