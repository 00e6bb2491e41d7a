import OCISpec
public import LinuxSystem

/// What `create` holds of a container until its monitor has it: the lock, which the monitor inherits, and the cgroup, which stands in
/// the ledger.
public struct EngineClaim: Sendable {
    public let lock: FileLock
    public let cgroup: Cgroup
}

extension Container {
    /// Takes the sandbox's lock, notes its folder and its cgroup in its ledger, and makes the cgroup with the limits of the host's side.
    @Loop
    public func claim(cgroup: Cgroup, _ plan: BundlePlan) async throws -> EngineClaim {
        guard let lock = try paths.attemptLock(making: true) else {
            throw SandboxError("container \(name) is being taken back by somebody else", exitCode: 1)
        }
        let ledger = try Ledger(paths)
        try await ledger.hold(.folder(paths.runtime)) {}
        if cgroup.isSupported {
            try await ledger.hold(.engineCgroup(path: cgroup.path)) {
                // A scope needs a process at its making: `enter`.
                if cgroup.scope != nil { return }
                try cgroup.make()
                try plan.bound(cgroup, record)
            }
        }
        return EngineClaim(lock: lock, cgroup: cgroup)
    }

    /// Has systemd make the cgroup, where it is a scope of its, with the monitor in it, which has started nothing yet.
    @Loop
    public func enter(_ claim: EngineClaim, monitor pid: Int32, _ plan: BundlePlan) async throws {
        guard claim.cgroup.scope != nil else { return }
        let user = !UserNamespace.isInitial
        try await claim.cgroup.start(pid: pid, user: user)
        try plan.bound(claim.cgroup, record)
        try await claim.cgroup.tellSystemd(user: user)
    }

    /// After a change of its limits: systemd would undo what it does not know of.
    @Loop
    public func tellSystemd() async throws {
        guard exists(paths.ledger), let cgroup = try Ledger(paths).engineCgroup else { return }
        try await cgroup.tellSystemd(user: !UserNamespace.isInitial)
    }
}

extension BundlePlan {
    /// Bytes of a machine's host processes besides the guest's memory: the VMM, the share's server and the monitor.
    static let overhead: UInt64 = 256 << 20

    /// Bounds the host's cgroup: the container's limits, and what its machine needs on top.
    func bound(_ cgroup: Cgroup, _ record: ContainerRecord) throws {
        let planner = Planner(record)
        let cpu = spec.linux?.resources?.cpu
        try cgroup.limit(
            memory: record.resources.memory.map { _ in planner.memory + Self.overhead },
            cpus: cpu?.quota.flatMap { $0 > 0 ? record.resources.cpus.map { $0.rounded(.up) + 1 } : nil }, processes: 4096)
        if let shares = cpu?.shares, shares >= 2 {
            let weight = 1 + (min(shares, 262_144) - 2) * 9999 / 262_142
            // One that the host's kernel does not take is a matter of fairness, not of bounds.
            try? cgroup.set("cpu", v1: "cpu.shares", v2: nil, "\(shares)")
            try? cgroup.set("cpu", v1: nil, v2: "cpu.weight", "\(weight)")  // as above
        }
        if let set = cpu?.cpus, !set.isEmpty { try cgroup.set("cpuset", v1: "cpuset.cpus", v2: "cpuset.cpus", set) }
        if let set = cpu?.mems, !set.isEmpty { try cgroup.set("cpuset", v1: "cpuset.mems", v2: "cpuset.mems", set) }
    }
}
