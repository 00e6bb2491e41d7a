import AgentProtocol
import OCISpec

extension BundlePlan {
    /// What config.json says of how a process is scheduled: names become the kernel's numbers.
    func schedule(_ configuration: inout ProcessConfiguration, _ process: ProcessSpec) throws {
        if let wanted = process.scheduler {
            var scheduler = SchedulerConfiguration()
            scheduler.policy = try Self.number(wanted.policy, Self.policies, "scheduler policy")
            scheduler.nice = wanted.nice ?? 0
            scheduler.priority = UInt32(clamping: wanted.priority ?? 0)
            scheduler.flags = try (wanted.flags ?? []).reduce(0) {
                $0 | UInt64(try Self.number($1, Self.schedulerFlags, "scheduler flag"))
            }
            scheduler.runtime = wanted.runtime ?? 0
            scheduler.deadline = wanted.deadline ?? 0
            scheduler.period = wanted.period ?? 0
            configuration.scheduler = scheduler
        }
        if let wanted = process.ioPriority {
            let kind = try Self.number(wanted.class, Self.ioClasses, "I/O priority class")
            guard (0...7).contains(wanted.priority ?? 0) else {
                throw SandboxError("the I/O priority \(wanted.priority ?? 0) in config.json is not one of 0 to 7", exitCode: 1)
            }
            configuration.ioPriority = kind << 13 | UInt32(wanted.priority ?? 0)
        }
        if let wanted = spec.linux?.personality {
            guard wanted.flags?.isEmpty != false else {
                throw SandboxError("flags of a personality are not known to the specification", exitCode: 1)
            }
            configuration.personality = UInt64(try Self.number(wanted.domain, Self.personalities, "personality"))
        }
    }

    private static func number(_ name: String, _ known: [String: UInt32], _ what: String) throws -> UInt32 {
        guard let number = known[name] else { throw SandboxError("unknown \(what) \"\(name)\" in config.json", exitCode: 1) }
        return number
    }

    /// linux/sched.h
    private static let policies: [String: UInt32] = [
        "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5, "SCHED_DEADLINE": 6,
    ]
    private static let schedulerFlags: [String: UInt32] = [
        "SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2, "SCHED_FLAG_DL_OVERRUN": 4, "SCHED_FLAG_KEEP_POLICY": 8,
        "SCHED_FLAG_KEEP_PARAMS": 16, "SCHED_FLAG_UTIL_CLAMP_MIN": 32, "SCHED_FLAG_UTIL_CLAMP_MAX": 64,
    ]
    /// linux/ioprio.h
    private static let ioClasses: [String: UInt32] = ["IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3]
    /// linux/personality.h
    private static let personalities: [String: UInt32] = ["LINUX": 0, "LINUX32": 8]
}

extension ContainerConfiguration {
    /// Gives it a user namespace: what names ids inside becomes what names them outside, where everything is made.
    mutating func map(_ identities: (users: [IDRange], groups: [IDRange])) {
        guard !identities.users.isEmpty else { return }
        userIDs = identities.users
        groupIDs = identities.groups
        for index in devices.indices {
            devices[index].uid = userIDs.outside(devices[index].uid) ?? devices[index].uid
            devices[index].gid = groupIDs.outside(devices[index].gid) ?? devices[index].gid
        }
        for index in mounts.indices where [.devpts, .tmpfs, .dev].contains(mounts[index].kind) {
            mounts[index].data = mounts[index].data.split(separator: ",").map { option in
                for (name, ranges) in [("uid=", userIDs), ("gid=", groupIDs)] where option.hasPrefix(name) {
                    if let id = UInt32(option.dropFirst(4)), let outer = ranges.outside(id) { return "\(name)\(outer)" }
                }
                return String(option)
            }.joined(separator: ",")
        }
    }
}
