import AgentProtocol
import Machines
public import OCISpec

/// From a bundle's config.json to what Hull's parts are told. Pure: paths of the host are named, never looked at.
public struct BundlePlan: Sendable {
    public let spec: RuntimeSpec
    /// The bundle's folder, absolute.
    public let bundle: String
    /// What its cgroup in the guest may do with devices (`ContainerConfiguration.deviceProgram`).
    private let deviceProgram: [UInt8]

    /// Reads the intent; throws what a machine of its own cannot honour.
    public init(_ spec: RuntimeSpec, bundle: String) throws {
        self.spec = spec
        self.bundle = bundle
        deviceProgram = try DeviceProgram.compile(spec.linux?.resources?.devices)
        guard spec.root != nil else { throw SandboxError("config.json has no root filesystem (root.path)", exitCode: 1) }
        guard spec.linux != nil else { throw SandboxError("config.json has no linux section", exitCode: 1) }
        for mount in spec.mounts ?? [] {
            if (mount.options ?? []).contains(where: { $0 == "idmap" || $0 == "ridmap" }) || mount.uidMappings != nil {
                throw SandboxError(
                    "mount \(mount.destination): ID-mapped mounts of a bundle are not carried into a machine", exitCode: 1)
            }
        }
        if let user = namespace("user"), user.path?.isEmpty != false,
            spec.linux?.uidMappings?.isEmpty != false || spec.linux?.gidMappings?.isEmpty != false
        {
            throw SandboxError("User namespaces enabled, but no uid or gid mappings found", exitCode: 1)
        }
        for (type, what) in [("pid", "processes"), ("ipc", "System V IPC and shared memory")] {
            let namespace = namespace(type)
            if namespace == nil {
                throw SandboxError(
                    "a container in a machine of its own cannot share the host's \(what) (no \(type) namespace in config.json)",
                    exitCode: 1)
            }
        }
    }

    /// Throws where a namespace is to be joined that no machine of Hull's has.
    public func checkStandsAlone() throws {
        for type in ["pid", "ipc", "uts", "user"] {
            if let path = namespace(type)?.path, !path.isEmpty {
                throw SandboxError(
                    "a container in a machine of its own cannot join the \(type) namespace \(path) of the host", exitCode: 1)
            }
        }
    }

    /// The namespace entry of that type.
    public func namespace(_ type: String) -> RuntimeSpec.Namespace? { spec.linux?.namespaces?.first { $0.type == type } }

    /// Where the container's network is, on the host.
    public enum Network: Hashable, Sendable {
        /// A new namespace, into which the engine puts interfaces later, or nobody anything.
        case new
        /// One that is there.
        case path(String)
        /// The host's own.
        case host
    }

    /// As config.json says.
    public var network: Network {
        guard let namespace = namespace("network") else { return .host }
        guard let path = namespace.path, !path.isEmpty else { return .new }
        return .path(path)
    }

    /// The root filesystem's folder on the host.
    public var rootfs: String { absolute(spec.root?.path ?? "rootfs") }

    /// The ids of its user namespace, and what they are outside; empty where it has none of its own.
    var identities: (users: [IDRange], groups: [IDRange]) {
        guard namespace("user") != nil else { return ([], []) }
        func ranges(_ all: [RuntimeSpec.IDMapping]?) -> [IDRange] {
            (all ?? []).map { IDRange(inside: $0.containerID, outside: $0.hostID, count: $0.size) }
        }
        return (ranges(spec.linux?.uidMappings), ranges(spec.linux?.gidMappings))
    }

    /// Whether it is to have the whole of the guest: no engine says so in config.json, but no other container may load modules and
    /// has nothing masked.
    public var isPrivileged: Bool {
        (spec.process?.capabilities?.bounding ?? []).contains("CAP_SYS_MODULE") && (spec.linux?.maskedPaths ?? []).isEmpty
    }

    /// Whether `create` runs hooks outside the machine.
    public var hasHostHooks: Bool {
        let hooks = spec.hooks
        return [hooks?.prestart, hooks?.createRuntime, hooks?.createContainer].contains { $0?.isEmpty == false }
    }

    func absolute(_ path: String) -> String { path.hasPrefix("/") ? path : "\(bundle)/\(path)" }

    /// Where the holder's cgroup is, below each hierarchy's root. `systemd` says that the path is `slice:prefix:name`; `user` is who runs a
    /// rootless engine, whose slices are below the user's own service manager.
    public func cgroup(id: String, systemd: Bool, user: UInt32? = nil) -> String {
        let path = spec.linux?.cgroupsPath ?? ""
        let parts = path.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        if parts.count == 3, systemd || !path.hasPrefix("/") {
            let scope = parts[1].isEmpty ? "\(parts[2]).scope" : "\(parts[1])-\(parts[2]).scope"
            let manager = user.map { ["user.slice", "user-\($0).slice", "user@\($0).service"] } ?? []
            let slice = !parts[0].isEmpty ? parts[0] : user == nil ? "system.slice" : "user.slice"
            return (manager + Self.slices(slice) + [scope]).joined(separator: "/")
        }
        if path.isEmpty { return id }
        return path.split(separator: "/").filter { $0 != ".." && $0 != "." }.joined(separator: "/")
    }

    /// `a-b.slice` lies in `a.slice` (systemd.slice(5)).
    private static func slices(_ name: String) -> [String] {
        guard name.hasSuffix(".slice"), name != "-.slice" else { return name == "-.slice" ? [] : [name] }
        var all: [String] = []
        var sofar = ""
        for part in name.dropLast(6).split(separator: "-") {
            sofar += sofar.isEmpty ? part : "-\(part)"
            all.append("\(sofar).slice")
        }
        return all
    }

    /// The container as Hull's store keeps it.
    public func record(root: String, id: String, name: String, hypervisor: String = "qemu", now: Int64) -> ContainerRecord {
        var process = ContainerRecord.ProcessSettings(arguments: spec.process?.args ?? [])
        process.environment = spec.process?.env ?? []
        process.directory = spec.process?.cwd ?? "/"
        process.terminal = spec.process?.terminal ?? false
        process.input = true
        var record = ContainerRecord(
            id: EngineOwner.key(root: root, id: id), name: name, created: now, root: .folder(rootfs), process: process)
        record.hostname = spec.hostname ?? ""
        // The share shows the root writable: mount points are made in it, before the guest makes it read-only for the container.
        record.privileged = isPrivileged
        record.network.mode = .none
        record.mounts = mounts.compactMap(\.share)
        record.engine = EngineOwner(
            root: root, id: id, bundle: bundle, ociVersion: spec.ociVersion, annotations: spec.annotations ?? [:], rootfs: rootfs)
        let resources = spec.linux?.resources
        if let memory = Self.machineMemory(resources?.memory?.limit) {
            record.resources.memory = memory
        }
        record.resources.cpus = Self.cpus(resources?.cpu)
        record.resources.pids = (resources?.pids?.limit).flatMap { $0 > 0 ? Int($0) : nil }
        record.machine.hypervisor = hypervisor
        setMachine(&record)
        return record
    }

    /// What a machine is sized for, in bytes: its own kernel needs some however little its container may have. A limit beyond all memory
    /// (Kubernetes' word for none) sizes nothing.
    static func machineMemory(_ limit: Int64?) -> UInt64? {
        guard let limit, limit > 0, limit < 1 << 46 else { return nil }
        return max(UInt64(limit), 64 << 20)
    }

    /// More processors than any machine has.
    private static let mostProcessors = 1024.0

    /// How many processors a container may keep busy; nil where it says nothing.
    static func cpus(_ cpu: ResourceLimits.CPU?) -> Double? {
        guard let cpu else { return nil }
        if let quota = cpu.quota, quota > 0 {
            return min(mostProcessors, Double(quota) / Double(max(1, cpu.period.flatMap { $0 == 0 ? nil : $0 } ?? 100_000)))
        }
        if let set = cpu.cpus, !set.isEmpty {
            let count = set.split(separator: ",").reduce(0.0) { sum, part in
                let ends = part.split(separator: "-").compactMap { UInt32($0) }
                return sum + (ends.count == 2 ? max(0, Double(ends[1]) - Double(ends[0]) + 1) : Double(ends.count))
            }
            return count > 0 ? min(mostProcessors, count) : nil
        }
        return nil
    }

    /// What annotations say of the machine; `AnnotationPolicy` has agreed.
    private func setMachine(_ record: inout ContainerRecord) {
        let annotations = spec.annotations ?? [:]
        if let name = annotations["run.hull.hypervisor"] { record.machine.hypervisor = name }
        record.machine.machine = annotations["run.hull.machine"]
        record.machine.kernel = annotations["run.hull.kernel"]
        record.machine.kernelArguments = annotations["run.hull.kernel-args"]
        // What cannot be read was refused by the policy.
        record.machine.disks = try? annotations["run.hull.disks"].map(DiskAnnotation.parse)
        if let text = annotations["run.hull.vcpus"], let count = Double(text), count >= 1, count <= 255 {
            record.resources.cpus = record.resources.cpus ?? count
        }
        if let text = annotations["run.hull.memory"], let bytes = ByteCount.parse(text) {
            record.resources.memory = record.resources.memory ?? bytes
        }
    }

    /// The container, as the agent makes it.
    func container(
        id: String, prefix: String = "", memory: [String: UInt64] = [:], sockets: [HostSocket?] = []
    ) -> ContainerConfiguration {
        var configuration = ContainerConfiguration()
        configuration.id = id
        configuration.hostname = spec.hostname ?? ""
        configuration.domainname = spec.domainname ?? ""
        configuration.root.kind = .share
        configuration.root.path = prefix + "root"
        configuration.root.readOnly = spec.root?.readonly ?? false
        var shares = 0
        configuration.mounts = mounts.map { planned in
            var mount = planned.guest
            if planned.share != nil {
                defer { shares += 1 }
                if shares < sockets.count, let socket = sockets[shares] {
                    mount.kind = .socket
                    mount.source = "\(shares)"
                    mount.socket = socket.configuration
                    return mount
                }
            }
            if planned.share != nil { mount.source = prefix + mount.source }
            guard let size = memory[planned.guest.destination] else { return mount }
            mount.kind = .tmpfs
            mount.source = "shm"
            mount.flags &= ~Self.recursiveFlag
            mount.data = "mode=1777,size=\(size)"
            return mount
        }
        configuration.privileged = isPrivileged
        configuration.maskedPaths = spec.linux?.maskedPaths ?? []
        configuration.readOnlyPaths = spec.linux?.readonlyPaths ?? []
        configuration.devices = isPrivileged ? [] : (spec.linux?.devices ?? []).compactMap(Self.device)
        configuration.sysctls = (spec.linux?.sysctl ?? [:]).sorted { $0.key < $1.key }.map { Setting($0.key, $0.value) }
        configuration.rootPropagation = Self.propagation[spec.linux?.rootfsPropagation ?? ""] ?? 0
        configuration.limits = Self.limits(spec.linux?.resources)
        configuration.deviceProgram = deviceProgram
        configuration.map(identities)
        return configuration
    }

    private static func device(_ device: RuntimeSpec.Device) -> DeviceConfiguration? {
        let kinds: [String: UInt32] = ["c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000]
        guard let kind = kinds[device.type] else { return nil }
        var node = DeviceConfiguration()
        node.path = device.path
        node.mode = kind | (device.fileMode ?? 0o666) & 0o7777
        node.major = UInt32(truncatingIfNeeded: device.major ?? 0)
        node.minor = UInt32(truncatingIfNeeded: device.minor ?? 0)
        node.uid = device.uid ?? 0
        node.gid = device.gid ?? 0
        return node
    }

    /// The guest's limits.
    static func limits(_ resources: ResourceLimits?) -> ContainerLimits {
        func value(_ number: Int64?) -> UInt64? { number.flatMap { $0 == 0 ? nil : $0 < 0 ? .max : UInt64($0) } }
        var limits = ContainerLimits()
        guard let resources else { return limits }
        limits.memory = value(resources.memory?.limit)
        limits.memoryReservation = value(resources.memory?.reservation)
        limits.cpuQuota = value(resources.cpu?.quota)
        limits.cpuPeriod = resources.cpu?.period.flatMap { $0 == 0 ? nil : $0 }
        if let shares = resources.cpu?.shares, shares > 0 {
            // runc's formula (cgroups' ConvertCPUSharesToCgroupV2Value): 2…262144 to 1…10000.
            limits.cpuWeight = 1 + (min(max(shares, 2), 262_144) - 2) * 9999 / 262_142
        }
        limits.pids = value(resources.pids?.limit)
        if let idle = resources.cpu?.idle { limits.unified.append(Setting("cpu.idle", "\(idle)")) }
        if let burst = resources.cpu?.burst { limits.unified.append(Setting("cpu.max.burst", "\(burst)")) }
        limits.unified += (resources.unified ?? [:]).sorted { $0.key < $1.key }.map { Setting($0.key, $0.value) }
        return limits
    }

    /// The seccomp program of all its processes; empty where there is none. An engine's default profile takes libseccomp 20 ms: once for a container.
    func filter() throws -> [UInt8] { try spec.linux?.seccomp.map(Seccomp.compile) ?? [] }

    /// A process: the container's first, which then waits to be released, or an exec.
    func process(
        _ process: ProcessSpec, container: String, number: UInt64, isExec: Bool, streams: Streams, filter: [UInt8]
    ) throws -> ProcessConfiguration {
        var configuration = ProcessConfiguration()
        configuration.process = number
        configuration.container = container
        configuration.isExec = isExec
        configuration.held = !isExec
        configuration.arguments = process.args ?? []
        configuration.environment = process.env ?? []
        configuration.workingDirectory = process.cwd ?? "/"
        let user = process.user
        configuration.user = "\(user?.uid ?? 0):\(user?.gid ?? 0)"
        configuration.groups = (user?.additionalGids ?? []).map(String.init)
        configuration.umask = user?.umask ?? 0o022
        var sets = CapabilitySets()
        func mask(_ names: [String]?) -> UInt64 {
            Capabilities.mask((names ?? []).map { $0.hasPrefix("CAP_") ? String($0.dropFirst(4)) : $0 })
        }
        sets.bounding = mask(process.capabilities?.bounding)
        sets.effective = mask(process.capabilities?.effective)
        sets.permitted = mask(process.capabilities?.permitted)
        sets.inheritable = mask(process.capabilities?.inheritable)
        sets.ambient = mask(process.capabilities?.ambient)
        if isPrivileged {
            // The whole of the guest, also where the engine itself has less of the host.
            sets.bounding = .max
            sets.effective = .max
            sets.permitted = .max
        }
        configuration.capabilities = sets
        configuration.limits = try (process.rlimits ?? []).map { limit in
            guard limit.type.hasPrefix("RLIMIT_"), let number = Limits.number(limit.type.dropFirst(7).lowercased()) else {
                throw SandboxError("unknown resource limit \"\(limit.type)\" in config.json", exitCode: 1)
            }
            return ResourceLimit(resource: UInt32(number), soft: limit.soft, hard: limit.hard)
        }
        configuration.noNewPrivileges = process.noNewPrivileges ?? false
        configuration.seccomp = filter
        configuration.seccompFlags = spec.linux?.seccomp.map(Seccomp.flags) ?? 0
        configuration.oomScoreAdjust = process.oomScoreAdj ?? 0
        try schedule(&configuration, process)
        configuration.terminal = process.terminal ?? false
        configuration.rows = UInt32(streams.rows ?? process.consoleSize?.height ?? 0)
        configuration.columns = UInt32(streams.columns ?? process.consoleSize?.width ?? 0)
        configuration.wantsInput = true
        if !isExec {
            configuration.hooks = (spec.hooks?.startContainer ?? []).map { hook in
                var program = HookConfiguration()
                program.path = hook.path
                program.arguments = hook.args?.isEmpty == false ? hook.args ?? [] : [hook.path]
                program.environment = hook.env ?? []
                return program
            }
        }
        return configuration
    }
}
