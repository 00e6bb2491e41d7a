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

    /// What a container reads and writes of its files, the share's server and the VMM read and write on the host, in this cgroup: there the
    /// devices are those that are meant.
    func boundDevices(_ cgroup: Cgroup, _ limits: ResourceLimits.BlockIO?) throws {
        guard let limits else { return }
        let isBudgetFair = cgroup.has("blkio", v1: "blkio.bfq.weight", v2: "io.bfq.weight")
        let (old, new) = isBudgetFair ? ("blkio.bfq.weight", "io.bfq.weight") : ("blkio.weight", "io.weight")
        // runc's formula (cgroups' ConvertBlkIOToIOWeightValue): 10…1000 to 1…10000, which io.bfq.weight is not on.
        func unified(_ weight: UInt16) -> Int { isBudgetFair ? Int(weight) : 1 + (Int(max(weight, 10)) - 10) * 9999 / 990 }
        if let weight = limits.weight, weight > 0 {
            try cgroup.set("blkio", v1: old, v2: nil, "\(weight)")
            try cgroup.set("blkio", v1: nil, v2: new, "\(unified(weight))")
        }
        for device in limits.weightDevice ?? [] {
            guard let weight = device.weight, weight > 0 else { continue }
            try cgroup.set("blkio", v1: old + "_device", v2: nil, "\(device.major):\(device.minor) \(weight)")
            try cgroup.set("blkio", v1: nil, v2: new, "\(device.major):\(device.minor) \(unified(weight))")
        }
        for (rates, v1, v2) in [
            (limits.throttleReadBpsDevice, "read_bps", "rbps"), (limits.throttleWriteBpsDevice, "write_bps", "wbps"),
            (limits.throttleReadIOPSDevice, "read_iops", "riops"), (limits.throttleWriteIOPSDevice, "write_iops", "wiops"),
        ] {
            for rate in rates ?? [] {
                let device = "\(rate.major):\(rate.minor)"
                try cgroup.set("blkio", v1: "blkio.throttle.\(v1)_device", v2: nil, "\(device) \(rate.rate)")
                try cgroup.set(
                    "blkio", v1: nil, v2: "io.max", "\(device) \(v2)=\(rate.rate == 0 ? "max" : "\(rate.rate)")")
            }
        }
    }

    /// What only some hosts' kernels have: the host's own error says where one has not.
    func boundRealtime(_ cgroup: Cgroup, _ cpu: ResourceLimits.CPU?) throws {
        if let period = cpu?.realtimePeriod, period > 0 {
            try cgroup.set("cpu", v1: "cpu.rt_period_us", v2: "cpu.rt_period_us", "\(period)")
        }
        if let runtime = cpu?.realtimeRuntime, runtime > 0 {
            try cgroup.set("cpu", v1: "cpu.rt_runtime_us", v2: "cpu.rt_runtime_us", "\(runtime)")
        }
        if let idle = cpu?.idle { try cgroup.set("cpu", v1: "cpu.idle", v2: "cpu.idle", "\(idle)") }
    }

    /// Bounds what the whole sandbox may compute on the host by what the container may, once it is made: what the VMM itself computes is of
    /// that too. Until then it has a processor more, to boot.
    func boundProcessors(_ cgroup: Cgroup?, _ cpu: ResourceLimits.CPU?) throws {
        guard let cgroup, let quota = cpu?.quota, quota != 0 else { return }
        try cgroup.limit(quota: quota, period: cpu?.period.flatMap { $0 == 0 ? nil : $0 } ?? 100_000)
        if let burst = cpu?.burst { try cgroup.set("cpu", v1: "cpu.cfs_burst_us", v2: "cpu.max.burst", "\(burst)") }
    }

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
        try boundDevices(cgroup, spec.linux?.resources?.blockIO)
        try boundRealtime(cgroup, cpu)
        if let set = cpu?.cpus, !set.isEmpty { try cgroup.set("cpuset", v1: "cpuset.cpus", v2: "cpuset.cpus", set) }
        if let set = cpu?.mems, !set.isEmpty { try cgroup.set("cpuset", v1: "cpuset.mems", v2: "cpuset.mems", set) }
    }
}
