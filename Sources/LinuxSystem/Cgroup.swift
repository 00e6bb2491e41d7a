import CLinux
import Glibc

/// A cgroup of ours on the host, in whichever hierarchies are there: v2, or v1's controllers side by side.
/// (cgroups(7); Documentation/admin-guide/cgroup-v2.rst)
public struct Cgroup: Sendable {
    /// The path below each hierarchy's root, e.g. `hull/1234`.
    public let path: String
    private let folders: [String: String]  // controller → folder

    private static let base = "/sys/fs/cgroup"

    /// Names the cgroup at `path`; nothing is made yet.
    public init(_ path: String) {
        self.path = path
        var folders: [String: String] = [:]
        if exists("\(Self.base)/cgroup.controllers") {
            folders[""] = "\(Self.base)/\(path)"
        } else {
            for controller in ["memory", "cpu", "pids"]
            where exists("\(Self.base)/\(controller)/cgroup.procs") {
                folders[controller] = "\(Self.base)/\(controller)/\(path)"
            }
        }
        self.folders = folders
    }

    /// None: processes stay where they are.
    public static let none = Cgroup(path: "", folders: [:])

    private init(path: String, folders: [String: String]) {
        self.path = path
        self.folders = folders
    }

    /// Names the cgroup at `path` in every hierarchy that is mounted, with all of v1's controllers, as an engine expects its
    /// container's process to be.
    public init(everywhere path: String) {
        self.path = path.hasPrefix("/") ? String(path.dropFirst()) : path
        var folders: [String: String] = [:]
        if exists("\(Self.base)/cgroup.controllers") {
            folders[""] = "\(Self.base)/\(self.path)"
        } else {
            // A folder that cannot be listed holds no hierarchy.
            for name in (try? listDirectory(Self.base)) ?? [] where exists("\(Self.base)/\(name)/cgroup.procs") {
                for controller in name.split(separator: ",") { folders[String(controller)] = "\(Self.base)/\(name)/\(self.path)" }
            }
        }
        self.folders = folders
    }

    /// Gives v1's cpuset, whose new cgroups are empty and take no process, what its parents have.
    private func fillCPUSets() throws(SystemError) {
        guard folders["cpuset"] != nil else { return }
        var folder = "\(Self.base)/cpuset"
        for part in path.split(separator: "/") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let value = try readFile("\(folder)/\(file)")
                let own = try readFile("\(folder)/\(part)/\(file)")
                if own.allSatisfy({ $0 == UInt8(ascii: "\n") }) { try writeFile("\(folder)/\(part)/\(file)", value) }
            }
            folder += "/\(part)"
        }
    }

    /// Writes a controller's file, if the controller is there: `memory` and `memory.soft_limit_in_bytes` (v1), or the name that v2 has.
    public func set(_ controller: String, v1: String?, v2: String?, _ value: String) throws(SystemError) {
        if isUnified {
            if let v2, let folder = folders[""] { try writeFile("\(folder)/\(v2)", Array(value.utf8)) }
        } else if let v1, let folder = folders[controller] {
            try writeFile("\(folder)/\(v1)", Array(value.utf8))
        }
    }

    /// Whether a controller has a file, by the name that v1 or v2 has for it.
    public func has(_ controller: String, v1: String, v2: String) -> Bool {
        (isUnified ? folders[""] : folders[controller]).map { exists("\($0)/\(isUnified ? v2 : v1)") } ?? false
    }

    /// The number in a controller's file; nil where there is none.
    public func number(_ controller: String, v1: String, v2: String) -> UInt64? {
        guard let folder = isUnified ? folders[""] : folders[controller],
            let text = try? readText("\(folder)/\(isUnified ? v2 : v1)")  // no file, no number
        else { return nil }
        return UInt64(text.split(separator: "\n").first ?? "")
    }

    /// The CPUs that it may use at once; nil where they are not bounded.
    var quota: Double? {
        guard isUnified, let folder = folders[""], let text = try? readText("\(folder)/cpu.max")  // no file, no bound
        else { return nil }
        let numbers = text.split(whereSeparator: \.isWhitespace).compactMap { Double($0) }
        return numbers.count == 2 && numbers[1] > 0 ? numbers[0] / numbers[1] : nil
    }

    /// Whether there is any hierarchy to make it in.
    public var isSupported: Bool { !folders.isEmpty }
    var isUnified: Bool { folders[""] != nil }

    /// Makes it. Being there already is no error.
    public func make() throws(SystemError) {
        for folder in folders.values {
            for attempt in 0... {
                do {
                    try makeDirectories(folder, mode: 0o755)
                    break
                } catch {
                    // A neighbour's end took the empty parent away between two of our steps; where many end at once, again.
                    if error.code != ENOENT || attempt == 100 { throw error }
                }
            }
        }
        guard isUnified else { return try fillCPUSets() }
        // Each level must pass its controllers on; one that is not there is no loss.
        var parent = Self.base
        for part in path.split(separator: "/") {
            for controller in ["+memory", "+cpu", "+pids", "+cpuset", "+io"] {
                try? writeFile("\(parent)/cgroup.subtree_control", Array(controller.utf8))  // not there is no loss
            }
            parent += "/\(part)"
        }
    }

    /// Bounds it: bytes of memory, CPUs, processes; nil leaves one free.
    public func limit(memory: UInt64? = nil, cpus: Double? = nil, processes: Int? = nil)
        throws(SystemError)
    {
        if let memory, let folder = folders[""] ?? folders["memory"] {
            try writeFile(
                "\(folder)/\(isUnified ? "memory.max" : "memory.limit_in_bytes")", Array("\(memory)".utf8))
        }
        if let cpus, let folder = folders[""] ?? folders["cpu"] {
            let quota = max(1000, Int(cpus * 100_000))
            if isUnified {
                try writeFile("\(folder)/cpu.max", Array("\(quota) 100000".utf8))
            } else {
                try writeFile("\(folder)/cpu.cfs_quota_us", Array("\(quota)".utf8))
            }
        }
        if let processes, let folder = folders[""] ?? folders["pids"] {
            try writeFile("\(folder)/pids.max", Array("\(processes)".utf8))
        }
    }

    /// Bounds what it may compute: `quota` microseconds in each `period`; a quota that is not positive bounds nothing.
    public func limit(quota: Int64, period: UInt64) throws(SystemError) {
        guard let folder = folders[""] ?? folders["cpu"] else { return }
        guard !isUnified else {
            return try writeFile("\(folder)/cpu.max", Array("\(quota > 0 ? "\(quota)" : "max") \(period)".utf8))
        }
        // No state between the two may ask for more than a parent has, or for less than a millisecond.
        try writeFile("\(folder)/cpu.cfs_quota_us", Array("-1".utf8))
        try writeFile("\(folder)/cpu.cfs_period_us", Array("\(period)".utf8))
        if quota > 0 { try writeFile("\(folder)/cpu.cfs_quota_us", Array("\(quota)".utf8)) }
    }

    /// Its open `cgroup.procs` files, for `ChildProcess.join`.
    public func entrances() throws(SystemError) -> [SharedDescriptor] {
        var all: [SharedDescriptor] = []
        for folder in folders.values.sorted() {
            all.append(SharedDescriptor(try openFile("\(folder)/cgroup.procs", O_WRONLY)))
        }
        return all
    }

    /// Moves this process into it, as far as it is there.
    public func enter() throws(SystemError) {
        for entrance in try entrances() { try writeFile(entrance.raw, path, Array("0".utf8)) }
    }

    /// Moves this process out of it, where it is there, into the cgroup that all others are in.
    public func leave() throws(SystemError) {
        if try Self.memberships().contains(where: { $0.hasSuffix("/\(path)") }) { try Cgroup("").enter() }
    }

    /// The cgroups that this process is in: lines of cgroups(7), /proc/PID/cgroup.
    public static func memberships() throws(SystemError) -> Set<Substring> { try memberships(of: "self") }

    /// Those that another process is in.
    public static func memberships(of other: ProcessIdentity) throws(SystemError) -> Set<Substring> {
        try memberships(of: "\(other.pid)")
    }

    private static func memberships(of name: String) throws(SystemError) -> Set<Substring> {
        Set(try readText("/proc/\(name)/cgroup").split(separator: "\n"))
    }

    /// Those of the cgroups that this process is in and `theirs` are not, where they can be entered; in hierarchies that none of `others` is in.
    public static func entrancesOfOurs(without theirs: Set<Substring>, nor others: [SharedDescriptor]) throws(SystemError)
        -> [SharedDescriptor]
    {
        var hierarchies: Set<UInt64> = []
        for other in others { hierarchies.insert(try hierarchy(of: other)) }
        var entrances: [SharedDescriptor] = []
        for line in try memberships().subtracting(theirs) {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            var name = parts[1].hasPrefix("name=") ? parts[1].dropFirst(5) : parts[1]
            // v2's beside v1's, where systemd mounts it.
            if name.isEmpty, !exists("\(base)/cgroup.controllers") { name = "unified" }
            // One that is not here is not entered: who must be in it looks afterwards.
            guard let file = try? openFile("\(base)/\(name)\(parts[2])/cgroup.procs", O_WRONLY) else { continue }
            let entrance = SharedDescriptor(file)
            if !hierarchies.contains(try hierarchy(of: entrance)) { entrances.append(entrance) }
        }
        return entrances
    }

    /// Each is a filesystem of its own.
    private static func hierarchy(of entrance: SharedDescriptor) throws(SystemError) -> UInt64 {
        var status = stat()
        try checked("look at", "a cgroup") { fstat(entrance.raw, &status) }
        return UInt64(status.st_dev)
    }

    /// Whether it exists in some hierarchy.
    public var isThere: Bool { folders.values.contains { exists($0) } }

    /// Kills what is in it and removes it, and its parent if that is empty then. Not being there is no error.
    /// What it waits for is `patience` times five milliseconds.
    public func remove(withParent: Bool = false, patience: Int = 200) throws(SystemError) {
        defer {
            if withParent, let slash = path.lastIndex(of: "/") {
                for folder in folders.values { rmdir(String(folder.dropLast(path[slash...].count))) }
            }
        }
        for folder in folders.values where exists(folder) {
            // What is still in it is left over from somebody who was killed.
            for line in ((try? readText("\(folder)/cgroup.procs")) ?? "").split(separator: "\n") {  // gone is fine
                if let pid = Int32(line) { ProcessIdentity(pid: pid)?.signal(SIGKILL) }
            }
            for attempt in 0... {
                if rmdir(folder) == 0 || errno == ENOENT { break }
                // A killed process leaves its cgroup only when it is reaped: some milliseconds.
                if errno != EBUSY || attempt == patience { throw SystemError("remove the cgroup", folder) }
                usleep(5000)
            }
        }
    }
}
