import AgentProtocol
import HostNetwork
import LinuxSystem
public import Machines
import Netlink

/// From a record to what a driver and an agent are told. Pure: everything it needs to know of the host is given.
public struct Planner: Sendable {
    /// Bytes of a container's writable disk, as the guest sees it; sparse on the host.
    public static let diskSize: UInt64 = 16 << 30
    /// Bytes of memory for a container that asks for none.
    static let defaultMemory: UInt64 = 1 << 30
    /// Bytes that the guest's kernel and the agent need besides the container.
    static let guestOverhead: UInt64 = 96 << 20

    let record: ContainerRecord
    /// The agent's name for the container: that of the one it was saved from, where the machine is restored.
    let guestName: String

    init(_ record: ContainerRecord, guestName: String? = nil) {
        self.record = record
        self.guestName = guestName ?? record.id
    }

    /// Bytes of the machine's memory, in whole MiB.
    var memory: UInt64 { Self.memory(for: record.resources.memory) }

    /// The machine's memory for a container's limit.
    static func memory(for limit: UInt64?) -> UInt64 {
        let wanted = limit.map { $0 + guestOverhead } ?? defaultMemory
        return (wanted + 0xF_FFFF) & ~0xF_FFFF
    }

    /// The machine's processors: the next whole number.
    var processors: Int { Self.processors(for: record.resources.cpus ?? 1) }

    static func processors(for cpus: Double) -> Int { max(1, Int(min(cpus, 255).rounded(.up))) }

    /// The bounds of the machine's cgroup on the host: the container's, and the VMM's own needs on top.
    func hostLimits(_ traits: HypervisorTraits) -> (memory: UInt64?, cpus: Double?, processes: Int) {
        (
            record.resources.memory.map { _ in memory + traits.overheadBytes },
            record.resources.cpus.map { $0.rounded(.up) + 1 }, 4096
        )
    }

    /// What `boot` needs to know of the host and of what was made for the sandbox.
    struct Host {
        var kernel: String
        var modulesDisk: String?
        var consoleLog: String
        var disk: String
        /// Whether no machine has had the disk yet.
        var diskIsFresh = false
        var confinement: Confinement
        var nic: NIC?
        /// Whether the machine's memory and processors may change while it runs.
        var mayGrow = false
        /// What is mounted below a root that is a folder.
        var rootMounts: [Submount] = []
    }

    /// The share's entries: the root folder first where there is one, then the mounts of the host's files, in their order.
    func shareEntries(_ mounts: [ResolvedMount], rootMounts: [Submount] = []) -> [ShareEntry] {
        var entries: [ShareEntry] = []
        if case .folder(let path) = record.root {
            entries.append(ShareEntry(name: "root", hostPath: path, readOnly: record.readOnlyRoot, submounts: rootMounts))
        }
        for (index, mount) in mounts.enumerated() {
            guard let path = mount.hostPath else { continue }
            var entry = ShareEntry(
                name: "m\(index)", hostPath: path, isFile: mount.isFile, readOnly: mount.mount.readOnly,
                isKernels: mount.isKernels,
                submounts: mount.submounts)
            entry.followsHost = mount.mount.options.contains("rslave")
            entries.append(entry)
        }
        return entries
    }

    /// The machine, all but its initramfs, whose content follows from the driver's layout.
    func machine(on host: Host, mounts: [ResolvedMount]) throws -> MachineSpec {
        guard let kind = MachineSpec.Kind(rawValue: record.machine.machine ?? "auto") else {
            throw SandboxError(
                "unknown --machine \"\(record.machine.machine ?? "")\": \(MachineSpec.Kind.allCases.map(\.rawValue).joined(separator: ", ")) are known"
            )
        }
        guard let accelerator = MachineSpec.Accelerator(rawValue: record.machine.accelerator ?? "auto")
        else {
            throw SandboxError(
                "unknown --accel \"\(record.machine.accelerator ?? "")\": \(MachineSpec.Accelerator.allCases.map(\.rawValue).joined(separator: ", ")) are known"
            )
        }
        var disks: [Disk] = []
        if case .image(_, _, let file) = record.root {
            disks.append(Disk(name: "root", path: file, readOnly: true))
            disks.append(Disk(name: "rw", path: host.disk, readOnly: false, isFresh: host.diskIsFresh))
        }
        if let modules = host.modulesDisk {
            disks.append(Disk(name: "modules", path: modules, readOnly: true, isFixed: true))
        }
        let entries = shareEntries(mounts, rootMounts: host.rootMounts)
        var spec = MachineSpec(
            id: record.id, kind: kind, accelerator: accelerator, memoryBytes: memory, vcpus: processors,
            kernel: host.kernel,
            initramfs: "",
            kernelArguments: record.machine.kernelArguments?.split(separator: " ").map(String.init) ?? [],
            disks: disks,
            share: entries.isEmpty ? nil : Share(tag: "hull", entries: entries),
            nics: host.nic.map { [$0] } ?? [],
            consoleLog: host.consoleLog, confinement: host.confinement)
        if host.mayGrow { spec.growth = EngineSize.growth(of: spec) }
        return spec
    }

    /// What the agent is told once.
    func sandbox(_ layout: GuestLayout, endpoint: Endpoint?, entropy: [UInt8], now: Int64)
        -> SandboxConfiguration
    {
        var configuration = SandboxConfiguration()
        configuration.identity.hostname = record.hostname
        configuration.identity.machineID = String(record.id.prefix(32))
        configuration.identity.entropy = entropy
        configuration.identity.realtime = UInt64(now)
        if let modules = layout.disks["modules"] {
            configuration.modules = DiskConfiguration(device: modules.path, type: "erofs")
        }
        configuration.share = layout.share?.tag ?? ""
        configuration.shareIsRelayed = layout.share?.carrier == .relay
        if let endpoint { network(endpoint, in: &configuration.identity) }
        return configuration
    }

    /// The one interface, its addresses and routes.
    func network(_ endpoint: Endpoint, in identity: inout Identity) {
        var interface = InterfaceConfiguration()
        interface.mac = endpoint.mac.bytes
        interface.name = "eth0"
        interface.mtu = endpoint.mtu
        interface.addresses = ["\(endpoint.ipv4)"] + (endpoint.ipv6.map { ["\($0)"] } ?? [])
        identity.interfaces = [interface]
        for gateway in [endpoint.gateway4, endpoint.gateway6].compactMap({ $0 }) {
            var route = RouteConfiguration()
            route.gateway = "\(gateway)"
            route.device = "eth0"
            identity.routes.append(route)
        }
    }

    /// The container, as the agent makes it.
    func container(_ layout: GuestLayout, mounts: [ResolvedMount], endpoint: Endpoint?) throws
        -> ContainerConfiguration
    {
        var configuration = ContainerConfiguration()
        configuration.id = guestName
        configuration.hostname = record.hostname
        configuration.root.readOnly = record.readOnlyRoot
        switch record.root {
        case .image:
            guard let lower = layout.disks["root"], let upper = layout.disks["rw"] else {
                throw SandboxError("the driver shows the guest no root disk")
            }
            configuration.root.kind = .overlay
            configuration.root.lower = DiskConfiguration(device: lower.path, type: "erofs")
            configuration.root.upper = DiskConfiguration(device: upper.path, type: "ext4")
        case .folder:
            configuration.root.kind = .share
            configuration.root.path = "root"
        }
        configuration.mounts = standardMounts + mounts.enumerated().map { mountConfiguration($0, $1) }
        configuration.files = Guestfiles(record: record, endpoint: endpoint).all
        configuration.privileged = record.privileged
        if !record.privileged {
            configuration.maskedPaths = Self.maskedPaths
            configuration.readOnlyPaths = Self.readOnlyPaths
        }
        configuration.sysctls = record.sysctls.sorted { $0.key < $1.key }.map {
            Setting($0.key, $0.value)
        }
        configuration.limits.memory = record.resources.memory
        configuration.limits.cpuPeriod = record.resources.cpus.map { _ in 100_000 }
        configuration.limits.cpuQuota = record.resources.cpus.map { UInt64($0 * 100_000) }
        configuration.limits.pids = record.resources.pids.map(UInt64.init)
        return configuration
    }

    /// A process: the container's first, or an exec.
    func process(
        _ settings: ContainerRecord.ProcessSettings, number: UInt64, isExec: Bool, streams: Streams
    ) throws -> ProcessConfiguration {
        var configuration = ProcessConfiguration()
        configuration.process = number
        configuration.container = guestName
        configuration.isExec = isExec
        configuration.arguments = settings.arguments
        // An exec's own variables come last and win.
        configuration.environment = (["HOSTNAME=\(record.hostname)"] + settings.environment).reduce(
            into: []) { all, entry in
                let name = entry.prefix { $0 != "=" }
                all.removeAll { $0.prefix { $0 != "=" } == name }
                all.append(entry)
            }
        configuration.workingDirectory = settings.directory
        configuration.user = settings.user
        configuration.groups = settings.groups
        let mask = Capabilities.mask(settings.capabilities)
        var sets = CapabilitySets()
        sets.bounding = mask
        sets.permitted = mask
        sets.effective = mask
        configuration.capabilities = sets
        configuration.limits = try settings.limits.map { limit in
            guard let number = Limits.number(limit.name) else {
                throw SandboxError("unknown resource limit \"\(limit.name)\"")
            }
            return ResourceLimit(resource: UInt32(number), soft: limit.soft, hard: limit.hard)
        }
        configuration.noNewPrivileges = settings.noNewPrivileges
        if settings.seccomp {
            configuration.seccomp = try Seccomp.compile(capabilities: settings.capabilities)
        }
        configuration.oomScoreAdjust = settings.oomScoreAdjustment ?? 0
        configuration.terminal = settings.terminal
        configuration.rows = UInt32(streams.rows ?? 0)
        configuration.columns = UInt32(streams.columns ?? 0)
        configuration.wantsInput = settings.input
        configuration.initWrapper = settings.initWrapper
        return configuration
    }
}

/// A mount whose source on the host is found: a path for what is shared, nothing for memory.
struct ResolvedMount: Sendable {
    var mount: ContainerRecord.Mount
    var hostPath: String?
    var isFile = false
    /// The socket that the source is; then nothing is shared.
    var socket: HostSocket?
    /// As `ShareEntry` has them.
    var isKernels = false
    var submounts: [Submount] = []
    /// As `SharedTree` has it.
    var isMemory = false
}
