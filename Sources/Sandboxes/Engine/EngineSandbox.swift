import CLinux
import AgentClient
import AgentProtocol
import FoundationEssentials
import Glibc
import LinuxSystem
import Machines
import Netlink
import OCISpec
import Storage

/// A sandbox that a container engine made: booted and held ready at `create`, let go at `start`.
@Loop
final class EngineSandbox {
    let record: ContainerRecord
    let paths: ContainerPaths
    let plan: BundlePlan
    private let roots: Roots
    private let hypervisor: any Hypervisor
    private let ledger: Ledger
    let planner: Planner
    /// What it goes on from; nil where it begins.
    private let saved: SavedContainer?
    private(set) var network: NamespaceNetwork?
    private(set) var spec: MachineSpec?
    private(set) var container: EngineContainer?
    private var isRelaying = false
    private var disks: AnnotatedDisks?
    /// Whether the agent has said its first word.
    private var isGreeted = false
    /// While it runs: what further containers of an engine join.
    private(set) var machine: (any VirtualMachine)?
    private(set) var agent: AgentConnection?
    let numbers = ProcessNumbers()
    /// The cgroup on the host that the engine named.
    var cgroup: Cgroup? { ledger.engineCgroup }
    var store: ContainerStore { ContainerStore(roots) }

    init(
        _ record: ContainerRecord, _ plan: BundlePlan, paths: ContainerPaths, roots: Roots, hypervisor: any Hypervisor,
        ledger: Ledger, saved: SavedContainer? = nil
    ) {
        self.saved = saved
        self.record = record
        self.plan = plan
        self.paths = paths
        self.roots = roots
        self.hypervisor = hypervisor
        self.ledger = ledger
        planner = Planner(record, guestName: saved?.manifest.saved.guestName)
    }

    /// Compiled while the machine starts.
    private lazy var filter = Task { @Loop [plan] in try plan.filter() }

    /// Boots, makes the container, serves it to its end, and ends the machine. `created` is called once it stands ready.
    ///
    /// The machine starts beside the hooks that the verb runs on the host; `hooked` returns when they are done. They seldom change what it is
    /// started from; if they do, it is given up, and another one starts from what they left.
    func run(
        _ streams: Streams, _ descriptors: HandedDescriptors, _ chronicle: Chronicle, hooked: Task<Void, any Error>?,
        created: @escaping @Loop () async -> Void
    ) async throws -> ContainerState.Exit {
        var confinement: Confinement =
            UserNamespace.isInitial
            ? Confinement(uidBase: try await Identifiers.take(roots, owner: record.id, ledger)) : .rootless
        confinement.profile = try plan.profile(on: AppArmor.ofHost())
        confinement.labels = try plan.labels(on: SELinux.ofHost(), knows: SELinux.knows)
        disks = try await AnnotatedDisks(record.machine.disks ?? [], roots)
        if hypervisor.reclaiming != nil {
            try await ledger.hold(.machine(hypervisor: record.machine.hypervisor, id: record.id)) {}
        }
        if let hooked {
            do {
                return try await attempt(confinement, streams, descriptors, chronicle, hooked, created)
            } catch is HooksChangedTheHost {
                // Whoever still holds one of them: their names are free.
                try network?.removeTaps()
                (isGreeted, network, spec) = (false, nil, nil)
            }
        }
        return try await attempt(confinement, streams, descriptors, chronicle, nil, created)
    }

    private func attempt(
        _ confinement: Confinement, _ streams: Streams, _ descriptors: HandedDescriptors, _ chronicle: Chronicle,
        _ hooked: Task<Void, any Error>?, _ created: @escaping @Loop () async -> Void
    ) async throws -> ContainerState.Exit {
        let table = try MountTable.current()
        let early = hooked.map { EarlyStart(hooked: $0, began: view(table)) }
        let mounts: [ResolvedMount]
        do { mounts = try Self.resolveMounts(record, paths, in: table) } catch {
            // A hook may make what is missing.
            guard let hooked else { throw error }
            try await hooked.value
            throw HooksChangedTheHost()
        }
        let network = try NamespaceNetwork(hypervisor.traits.nicEnd)
        self.network = network
        if let before = saved?.manifest.saved.network {
            try await network.attach(before)
        } else if plan.network != .host {
            // Docker's hook brings the first.
            try await network.attach(spares: hooked == nil ? Self.spares : Self.spares + 1)
        }
        let nics = network.nics
        var host = Planner.Host(
            kernel: "", modulesDisk: nil, consoleLog: paths.console, disk: paths.disk,
            // The monitor is in the cgroup, and so is whoever it starts.
            confinement: confinement, nic: nics.first)
        // A hook may have put something there.
        host.rootMounts = try SharedTree(of: plan.rootfs, in: table, own: "\(paths.runtime)/machine")?.submounts ?? []
        // Engines change limits while a container runs.
        host.mayGrow = record.machine.machine != MachineSpec.Kind.microvm.rawValue
        var spec: MachineSpec
        if let saved {
            try saved.checkFixed(below: roots.cache)
            try Self.makePoints(mounts, in: plan.rootfs)
            spec = try saved.spec(planner, on: host, nics: nics, mounts: mounts, paths: paths)
        } else {
            spec = try await Booting(record: record, roots: roots, hypervisor: hypervisor).complete(host, planner, mounts)
        }
        spec.nics = nics
        spec.disks += disks?.disks ?? []
        spec.share?.grows = true
        // A user namespace's ids are any of the host's.
        spec.share?.needsHostOwners = !plan.identities.users.isEmpty
        self.spec = spec
        let folder = "\(paths.runtime)/machine"
        try makeDirectories(folder)
        let start = MachineStart(
            hypervisor: hypervisor,
            // An engine's machine has a share, and so a copy of the template's memory: nobody's owners have to be mapped.
            templates: Templates(record, roots, hypervisor), saved: saved
        ) { StandardStreams.complain("hull-runtime: \($0)") }
        _ = filter
        do {
            let exit = try await start.run(spec, in: MachineDirectory(folder), isGreeted: { isGreeted }) { machine, isClone in
                try await self.serve(machine, isClone: isClone, network, mounts, streams, descriptors, chronicle, early, created)
            }
            await network.detach()
            return exit
        } catch {
            await network.detach()
            throw error
        }
    }

    /// What hooks could change of what the machine is started from.
    private func view(_ table: MountTable) -> HostView {
        let sources = record.mounts.compactMap { if case .bind(let path) = $0.source { path } else { nil } }
        return HostView(of: [plan.rootfs] + sources, in: table, own: paths.runtime)
    }

    /// NICs for interfaces that an engine adds later.
    private static let spares = 2

    static func resolveMounts(_ record: ContainerRecord, _ paths: ContainerPaths, in table: MountTable) throws -> [ResolvedMount]
    {
        try record.mounts.map { mount in
            guard case .bind(let path) = mount.source else { return ResolvedMount(mount: mount) }
            if let data = mount.options.first(where: { $0.hasPrefix(BundlePlan.overlayOption) }) {
                // It goes with the monitor's namespace.
                let place = "\(paths.runtime)/overlays\(mount.destination)"
                try makeDirectories(place)
                let label = mount.options.first { $0.hasPrefix(BundlePlan.labelOption) }?.dropFirst(BundlePlan.labelOption.count)
                try mountFilesystem(
                    "overlay", place, type: "overlay",
                    data: mountData(
                        String(data.dropFirst(BundlePlan.overlayOption.count)), label: SELinux.isOn ? label.map(String.init) : nil
                    ))
                return ResolvedMount(mount: mount, hostPath: place)
            }
            var status = stat()
            guard stat(path, &status) == 0 else {
                throw SandboxError(
                    "error mounting \"\(path)\" to rootfs at \"\(mount.destination)\": stat \(path): \(String(cString: strerror(errno)).lowercased())",
                    exitCode: 1)
            }
            if status.st_mode & S_IFMT == S_IFSOCK { return ResolvedMount(mount: mount, socket: try HostSocket(path)) }
            var resolved = ResolvedMount(mount: mount, hostPath: path, isFile: status.st_mode & S_IFMT != S_IFDIR)
            try resolved.follow(in: table, own: "\(paths.runtime)/machine")
            return resolved
        }
    }

    private func serve(
        _ machine: any VirtualMachine, isClone: Bool, _ network: NamespaceNetwork, _ mounts: [ResolvedMount], _ streams: Streams,
        _ descriptors: HandedDescriptors, _ chronicle: Chronicle, _ early: EarlyStart?, _ created: @Loop () async -> Void
    ) async throws -> ContainerState.Exit {
        do {
            let agent = AgentConnection(stream: try await machine.connect())
            let id = planner.guestName
            let process = plan.spec.process ?? ProcessSpec(args: [])
            let held: GuestProcess
            if let saved {
                held = try await resume(saved, agent, network)
            } else {
                held = try await begin(process, agent, machine.guest, isClone: isClone, network, mounts, streams, early)
            }
            let relays = SocketRelays(agent, container: id, mounts) { [numbers] in numbers.next() }
            defer { relays.stop() }
            self.machine = machine
            self.agent = agent
            let watching = Task { @Loop in try? await DescriptorGuard.watch(machine, agent) }  // ends with the machine
            defer { watching.cancel() }
            let output = ProcessStreams(held, log: nil, closesOutputs: !(process.terminal ?? false))
            _ = output.attach(streams, descriptors.take()) {}
            let container = EngineContainer(
                id: id, plan: plan, filter: try await filter.value, agent: agent, process: held, streams: output,
                machine: machine, chronicle: chronicle,
                addresses: try network.addresses(), numbers: numbers, isMember: false,
                size: EngineSize(machine, agent, planner, host: cgroup))
            self.container = container
            if saved != nil { try container.hasBegun() }
            do { try ContainerView.build(root: plan.rootfs, mounts) } catch {
                StandardStreams.complain("hull-runtime: who joins this namespace sees the host's files: \(error)")
            }
            let following = try follow(network, agent)
            defer { following.cancel() }
            let server = try EngineServer(container, in: self, at: paths.socket)
            try plan.boundProcessors(cgroup, plan.spec.linux?.resources?.cpu)
            await created()
            let exit = try await container.finish { try network.removeTaps() }
            await server.stop()
            return exit
        } catch let failure as AgentFailure {
            throw SandboxError(agent: failure)
        } catch {
            guard let end = await machine.ended(within: .milliseconds(300)) else { throw error }
            throw SandboxError(exit: end)
        }
    }

    /// Sets the guest up, and starts the container's first process in it, held.
    private func begin(
        _ process: ProcessSpec, _ agent: AgentConnection, _ guest: GuestLayout, isClone: Bool, _ network: NamespaceNetwork,
        _ mounts: [ResolvedMount], _ streams: Streams, _ early: EarlyStart?
    ) async throws -> GuestProcess {
        try await agent.greet(isClone: isClone)
        isGreeted = true
        if let early {
            try await early.hooked.value
            guard view(try .current()) == early.began, try await network.connectNew() else { throw HooksChangedTheHost() }
        }
        var sandbox = planner.sandbox(guest, endpoint: nil, entropy: Sandbox.entropy(), now: Timestamp.now.nanoseconds)
        try network.configure(&sandbox.identity, isClone: isClone)
        // The template has mounted it.
        if isClone { sandbox.modules = nil }
        var configuration = plan.container(id: record.id, memory: memory(mounts), sockets: mounts.map(\.socket))
        configuration.mounts.insert(contentsOf: try disks?.mounts(guest) ?? [], at: 0)
        let made = configuration
        var first = try plan.process(
            process, container: record.id, number: 1, isExec: false, streams: streams, filter: try await filter.value)
        if !first.hooks.isEmpty {
            let state = Container(record: record, state: ContainerState(.created), paths: paths).runtimeState(.created, pid: 1)
            first.hookInput = String(decoding: try JSONEncoder().encode(state), as: UTF8.self)
        }
        // All at once: the agent carries them out in order, and does not stand idle while an answer travels.
        let (asked, wanted) = (sandbox, first)
        let configuring = Task { @Loop in try await agent.configure(asked, followsClock: false) }
        let creating = Task { @Loop in try await agent.createContainer(made) }
        let starting = Task { @Loop in try await agent.start(wanted) }
        // The first failure is the one that explains the others.
        _ = try await Sandbox.outcome(of: configuring, within: .seconds(120), awaiting: "the guest's set-up")
        let relaying = Task { @Loop in try await self.relayNames(agent) }
        try await Sandbox.outcome(of: creating, within: .seconds(600), awaiting: "the container's root in the guest")
        let held = try await Sandbox.outcome(
            of: starting, within: .seconds(120), awaiting: "the container's process in the guest")
        try await Sandbox.outcome(of: relaying, within: .seconds(20), awaiting: "the relay of names in the guest")
        agent.followClock()
        return held
    }

    /// Goes on with what was saved.
    private func resume(_ saved: SavedContainer, _ agent: AgentConnection, _ network: NamespaceNetwork) async throws
        -> GuestProcess
    {
        var identity = Identity()
        identity.entropy = Sandbox.entropy()
        identity.realtime = UInt64(Timestamp.now.nanoseconds)
        if let before = saved.manifest.saved.network { try network.move(from: before, &identity) }
        numbers.last = saved.manifest.saved.lastProcess
        let first = try await saved.resume(agent, as: identity, keeping: [1, Self.nameRelay])
        if saved.manifest.saved.isPaused {
            var limits = ContainerLimits()
            limits.unified = [Setting("cgroup.freeze", "0")]
            try await agent.update(planner.guestName, limits)
        }
        if let server = plan.loopbackResolver, let relay = agent.adopted.first(where: { $0.number == Self.nameRelay }) {
            isRelaying = true
            let relay = NameRelay(relay, server: server)
            // It ends with the stream to the guest.
            Task { @Loop in await relay.run() }
        }
        isGreeted = true
        return first
    }

    /// The number of the relay of names.
    private static let nameRelay: UInt64 = 2

    /// A shared memory of an engine's making, in the guest's own memory and of the same size: processes of two machines share none.
    private func memory(_ mounts: [ResolvedMount]) -> [String: UInt64] {
        var sizes: [String: UInt64] = [:]
        for mount in mounts where mount.isMemory && mount.mount.destination == "/dev/shm" {
            var filesystem = statvfs()
            guard let path = mount.hostPath, statvfs(path, &filesystem) == 0 else { continue }
            sizes[mount.mount.destination] = UInt64(filesystem.f_blocks) * UInt64(filesystem.f_frsize)
        }
        return sizes
    }

    /// Interfaces that come, change and go while it runs.
    private func follow(_ network: NamespaceNetwork, _ agent: AgentConnection) throws -> Task<Void, Never> {
        let watch = try RouteWatch()
        return Task { @Loop in
            while !Task.isCancelled {
                do {
                    if let change = try await network.follow() {
                        try await withDeadline(.seconds(20), awaiting: "the guest's answer") {
                            try await agent.setIdentity(change)
                        }
                        try await self.relayNames(agent)
                    }
                    try await watch.next(pause: .milliseconds(40))
                } catch is CancellationError {
                    return
                } catch {
                    StandardStreams.complain("hull-runtime: following the network: \(error)")
                    do { try await watch.next(pause: .milliseconds(200)) } catch { return }
                }
            }
        }
    }

    /// Docker's resolver is at a loopback address, which is another one in the guest: its queries are relayed.
    private func relayNames(_ agent: AgentConnection) async throws {
        guard !isRelaying, let server = plan.loopbackResolver else { return }
        isRelaying = true
        var configuration = ProcessConfiguration()
        configuration.process = Self.nameRelay
        configuration.relay = server
        configuration.wantsInput = true
        let relay = NameRelay(try await agent.start(configuration), server: server)
        // It ends with the stream to the guest.
        Task { @Loop in await relay.run() }
    }
}
