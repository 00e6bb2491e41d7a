import AgentProtocol
import CGuest

/// A container's cgroup, below one that keeps memory and processes free for the agent.
struct Cgroup {
    static let parent = "/sys/fs/cgroup/hull"
    let path: String

    /// One that is there already, for the first container: a template has it, and its clones are spared a tenth of their start.
    nonisolated(unsafe) private(set) static var spare: String?

    /// Makes what all containers need, and the spare one. Its name cannot be a container's, and none sees it: each has a namespace of its own.
    static func prepare() throws(AgentFailure) {
        guard spare == nil else { return }
        try makeParent()
        let path = parent + "/.spare"
        if mkdir(path, 0o755) == 0 { spare = path }
    }

    /// Makes it.
    init(_ id: String) throws(AgentFailure) {
        try Self.makeParent()
        Self.limitParent()
        if let spare = Self.spare {
            path = spare
            Self.spare = nil
            return
        }
        path = Self.parent + "/" + id
        if mkdir(path, 0o755) < 0, guest_errno() != EEXIST {
            throw AgentFailure(.cgroup, "making a cgroup: \(KernelError(guest_errno()).words)", errno: guest_errno())
        }
    }

    private static func makeParent() throws(AgentFailure) {
        if access(parent, F_OK) == 0 { return }
        // One write a controller: a kernel without one of them must still give the others.
        for controller in ["+memory", "+pids", "+cpu", "+cpuset", "+io"] {
            _ = try? TextFile.write("/sys/fs/cgroup/cgroup.subtree_control", controller)  // said by the limit that needs it
        }
        try Mounting.makeDirectory(parent)
        for controller in ["+memory", "+pids", "+cpu", "+cpuset", "+io"] {
            _ = try? TextFile.write(parent + "/cgroup.subtree_control", controller)  // as above
        }
        _ = try? TextFile.write(parent + "/pids.max", "\(mostProcesses())")  // as above
    }

    /// Waits until everything in containers, which was told to, stands still; false when something does not for half a minute.
    static func awaitFrozen() -> Bool {
        guard let events = try? Descriptor(parent + "/cgroup.events", O_RDONLY) else { return true }  // no container
        let deadline = guest_clock(CLOCK_MONOTONIC) + 30_000_000_000
        while Scan.value(of: "frozen", in: events.readAll(limit: 256)) != 1 {
            if guest_clock(CLOCK_MONOTONIC) > deadline { return false }
            var changed = pollfd(fd: events.number, events: Int16(POLLPRI), revents: 0)
            _ = poll(&changed, 1, 100)
            lseek(events.number, 0, SEEK_SET)
        }
        return true
    }

    /// What containers may use together: what is free now and what they have, less a reserve for the agent and the kernel on
    /// their behalf (a sixteenth, 8 to 48 MiB). Without it they drive the whole guest out of memory, not only themselves.
    private static func limitParent() {
        guard let free = Scan.value(of: "MemAvailable:", in: TextFile.read("/proc/meminfo", limit: 8192)) else { return }
        let all = free &* 1024 &+ (TextFile.readNumber(parent + "/memory.current") ?? 0)
        let reserve = min(max(all / 16, 8 << 20), 48 << 20)
        if all > reserve * 2 { _ = try? TextFile.write(parent + "/memory.max", "\(all - reserve)") }  // the guest works without
    }

    /// As many processes as containers may have together: the kernel's limit less a reserve.
    private static func mostProcesses() -> UInt64 {
        let threads = TextFile.readNumber("/proc/sys/kernel/threads-max") ?? 4096
        let pids = TextFile.readNumber("/proc/sys/kernel/pid_max") ?? 32768
        let most = min(threads, pids)
        return max(most > 128 ? most - 128 : 32, 32)
    }

    /// Sets limits; what is absent stays.
    func apply(_ limits: ContainerLimits, isNew: Bool) throws(AgentFailure) {
        if !isNew { Self.limitParent() }
        if let memory = limits.memory {
            // The order matters when both shrink or grow: memory.max below what is used reclaims or kills, as in runc.
            try set("memory.max", Self.text(memory))
        }
        if let swap = limits.swap { try? set("memory.swap.max", Self.text(swap)) }  // a guest without swap has no such file
        if let low = limits.memoryReservation { try set("memory.low", Self.text(low)) }
        if limits.cpuQuota != nil || limits.cpuPeriod != nil {
            let current = Scan.words(TextFile.read(path + "/cpu.max")).map(Scan.text)
            let quota = limits.cpuQuota.map(Self.text) ?? (current.first ?? "max")
            let period = limits.cpuPeriod.map { "\($0)" } ?? (current.count > 1 ? current[1] : "100000")
            try set("cpu.max", quota + " " + period)
        }
        if let weight = limits.cpuWeight { try set("cpu.weight", "\(weight)") }
        if let pids = limits.pids { try set("pids.max", Self.text(pids)) }
        if !limits.cpus.isEmpty { try set("cpuset.cpus", limits.cpus) }
        for setting in limits.unified {
            guard !setting.name.utf8.contains(47) else {
                throw AgentFailure(.cgroup, "\"\(setting.name)\" is no cgroup file")
            }
            try set(setting.name, setting.value)
        }
    }

    private func set(_ file: String, _ value: String) throws(AgentFailure) {
        do throws(KernelError) { try TextFile.write(path + "/" + file, value) } catch {
            throw AgentFailure(.cgroup, "setting \(file) to \"\(value)\": \(error.words)", errno: error.number)
        }
    }

    private static func text(_ value: UInt64) -> String { value == UInt64.max ? "max" : "\(value)" }

    /// This cgroup and those that the container made in it, parents first.
    func tree() -> [String] {
        var all = [path]
        var index = 0
        while index < all.count, all.count < 4096 {
            let folder = all[index]
            index += 1
            guard let open = opendir(folder) else { continue }
            while let entry = readdir(open) {
                guard entry.pointee.d_type == 4 else { continue }
                let name = Directory.name(entry)
                if name != ".", name != ".." { all.append(folder + "/" + name) }
            }
            closedir(open)
        }
        return all
    }

    /// The pids in it, in the agent's namespace.
    func pids() -> [Int32] {
        var pids: [Int32] = []
        for folder in tree() {
            for word in Scan.words(TextFile.read(folder + "/cgroup.procs")) {
                if let pid = Scan.number(word), pid > 0 { pids.append(Int32(truncatingIfNeeded: pid)) }
            }
        }
        return pids
    }

    /// SIGKILL to all at once, new ones included.
    func killAll() {
        do throws(KernelError) { try TextFile.write(path + "/cgroup.kill", "1") } catch {
            for pid in pids() { _ = kill(pid, SIGKILL) }
        }
    }

    /// What was used.
    func statistics() -> ContainerStatistics {
        var result = ContainerStatistics()
        func number(_ file: String) -> UInt64 { TextFile.readNumber(path + "/" + file) ?? UInt64.max }
        result.memory = TextFile.readNumber(path + "/memory.current") ?? 0
        result.memoryPeak = TextFile.readNumber(path + "/memory.peak") ?? 0
        result.memoryLimit = number("memory.max")
        result.inactiveFile = Scan.value(of: "inactive_file", in: TextFile.read(path + "/memory.stat")) ?? 0
        result.oomKills = Scan.value(of: "oom_kill", in: TextFile.read(path + "/memory.events")) ?? 0
        let cpu = TextFile.read(path + "/cpu.stat")
        result.cpuUsage = Scan.value(of: "usage_usec", in: cpu) ?? 0
        result.cpuUser = Scan.value(of: "user_usec", in: cpu) ?? 0
        result.cpuSystem = Scan.value(of: "system_usec", in: cpu) ?? 0
        result.pids = TextFile.readNumber(path + "/pids.current") ?? 0
        result.pidsLimit = number("pids.max")
        for word in Scan.words(TextFile.read(path + "/io.stat")) {
            if word.starts(with: "rbytes=".utf8) { result.ioRead &+= Scan.number(word.dropFirst(7)) ?? 0 }
            if word.starts(with: "wbytes=".utf8) { result.ioWritten &+= Scan.number(word.dropFirst(7)) ?? 0 }
        }
        return result
    }
}
