import CLinux
import AgentClient
import AgentProtocol
import Glibc
import HostNetwork
import Kernels
import LinuxSystem
import Machines
import Netlink
import Storage

/// One sandbox: what it needs on the host, its machine, its container. `run` is its whole life.
@Loop
final class Sandbox {
    /// That of the container; as long as the machine waits for one, of what it waits for.
    private(set) var record: ContainerRecord
    let paths: ContainerPaths
    private let roots: Roots
    private let hypervisor: any Hypervisor
    private let ledger: Ledger
    private let drivers: Ledger.Drivers
    private(set) var planner: Planner
    /// The container, from its first process's start on.
    private(set) var container: RunningContainer?
    private let isFirstStart: Bool
    /// What it goes on from; nil where it begins.
    private let saved: SavedContainer?
    private var origin: MachineOrigin?
    /// The machine that stays, where one is wanted.
    private var resident: Resident?
    /// Whether the agent has said its first word.
    private var isGreeted = false
    /// The network's taking back, which begins when the container has ended and goes on beside the machine's end.
    private var leaving: Task<Void, Never>?
    /// What serves published ports at `::1`, until the network is left.
    private var relay: LoopbackRelay?

    init(
        _ record: ContainerRecord, paths: ContainerPaths, roots: Roots, hypervisor: any Hypervisor,
        ledger: Ledger, drivers: Ledger.Drivers, isFirstStart: Bool = false, saved: SavedContainer? = nil
    ) {
        self.drivers = drivers
        self.saved = saved
        self.isFirstStart = isFirstStart
        self.record = record
        self.paths = paths
        self.roots = roots
        self.hypervisor = hypervisor
        self.ledger = ledger
        planner = Planner(record, guestName: saved?.manifest.saved.guestName)
    }

    /// Boots, runs the container to its end, and ends the machine. What is on the host stays in the ledger, for the caller.
    func run(
        _ streams: Streams, _ descriptors: HandedDescriptors, _ channel: Channel, _ announcer: Announcer, _ chronicle: Chronicle
    ) async throws -> ContainerState.Exit {
        let mounts = try resolveMounts()
        if saved == nil, let wanted = record.machine.resident {
            guard hypervisor.traits.canPark else {
                throw SandboxError(
                    "a machine of \(hypervisor.traits.name) ends with its container: leave --resident out, and use hull pool")
            }
            guard record.machine.machine != MachineSpec.Kind.hvm.rawValue else {
                throw SandboxError(
                    "a machine whose device model is a domain of its own ends with its container: leave --resident out, or choose --machine pvh"
                )
            }
            resident = try await ResidentStore(roots, drivers: drivers).take(wanted, for: record.id)
        }
        let cgroup = Cgroup("hull/\(record.id)")
        if cgroup.isSupported {
            let limits = planner.hostLimits(hypervisor.traits)
            try await ledger.hold(.cgroup(path: cgroup.path)) {
                try cgroup.make()
                try cgroup.limit(memory: limits.memory, cpus: limits.cpus, processes: limits.processes)
            }
        }
        let identifiers = try await Identifiers.take(roots, owner: record.id, ledger)
        let attaching = try await attachNetwork()
        let attachment = attaching?.attachment
        relay = attachment.map { LoopbackRelay($0) }
        try relay?.start()
        defer {
            relay?.stop()
            // With its ports, which are free for others when the container has ended.
            relay = nil
        }
        var host = Planner.Host(
            kernel: "", modulesDisk: nil, consoleLog: paths.console, disk: paths.disk, diskIsFresh: isFirstStart,
            confinement: Confinement(uidBase: identifiers, cgroups: try cgroup.entrances()),
            nic: attachment.map { nic($0) })
        if case .folder(let path) = record.root {
            host.rootMounts = try SharedTree(of: path, own: "\(paths.runtime)/machine")?.submounts ?? []
        }
        let spec: MachineSpec
        if let saved {
            spec = try saved.spec(planner, on: host, mounts: mounts, paths: paths)
        } else {
            spec = try await Booting(record: record, roots: roots, hypervisor: hypervisor).complete(host, planner, mounts)
        }
        if resident == nil {
            origin = MachineOrigin(
                spec: spec,
                recipe: try saved?.manifest.saved.machine ?? TemplateRecipe(spec, hypervisor: record.machine.hypervisor),
                endpoint: attachment?.endpoint, paths: paths)
        }
        let folder = "\(paths.runtime)/machine"
        try makeDirectories(folder)
        if hypervisor.reclaiming != nil, resident == nil {
            // Nothing is made yet; from here on something may be left that does not end with us.
            try await ledger.hold(.machine(hypervisor: record.machine.hypervisor, id: record.id)) {}
        }
        Fault.point("machine:start")
        let start = MachineStart(
            hypervisor: hypervisor, templates: Templates(record, roots, hypervisor), saved: saved, resident: resident,
            log: Self.log)
        let exit: ContainerState.Exit
        do {
            exit = try await start.run(spec, in: MachineDirectory(folder), isGreeted: { isGreeted }) { machine, isClone in
                Fault.point("machine:started")
                return try await self.serve(
                    machine, isClone: isClone, mounts, attaching, streams, descriptors, channel, announcer, chronicle)
            }
        } catch {
            await settle()
            await leaving?.value
            throw error
        }
        await settle()
        await leaving?.value
        Fault.point("machine:ended")
        withExtendedLifetime(attachment) {}
        return exit
    }

    private func leaveNetwork() {
        guard record.network.mode == .bridge else { return }
        // The address is somebody else's from now on.
        relay?.stop()
        let ledger = ledger
        leaving = Task { @Loop in
            // What fails stays in the ledger, which is walked when the machine has ended.
            try? await ledger.undo(beside: true, where: { if case .network = $0 { true } else { false } })
        }
    }

    /// What of a resident machine does not wait for the next container goes, or is left to the next verb.
    private func settle() async {
        guard let resident else { return }
        // In a task of its own: who is asked to end is cancelled.
        let settling = Task { @Loop in try await resident.settle() }
        do { try await settling.value } catch { Self.log("the resident machine: \(error)") }
    }

    /// Clears the guest of the container, and leaves the machine for the next one.
    private func park(_ machine: any VirtualMachine, _ agent: AgentConnection, _ resident: Resident) async throws {
        guard let parking = machine.parking else { return }
        let name = planner.guestName
        try await withDeadline(.seconds(60), awaiting: "the guest's clearing away of the container") {
            try await agent.removeContainer(name)
        }
        try resident.park(try await parking.park())
    }

    private static func log(_ text: String) { StandardStreams.complain("hull-monitor: \(text)") }

    /// The way into the network is made beside the machine's start, where the machine needs no more of it than a tap.
    private func attachNetwork() async throws -> BegunAttachment? {
        guard record.network.mode == .bridge else { return nil }
        let withTap = hypervisor.traits.nicEnd == .tap
        return try await ledger.hold(.network(key: record.id)) {
            let begun = try await roots.network.begin(
                EndpointRequest(
                    key: record.id, name: record.name, ports: record.network.ports,
                    ipv4: saved?.wantedAddress?.ipv4.address),
                withTap: withTap)
            if !withTap { try await begun.connected() }
            return begun
        }
    }

    /// The machine's end of the attachment, with what the driver wants at the host's.
    private func nic(_ attachment: Attachment) -> NIC {
        let endpoint = attachment.endpoint
        let network = roots.network
        let end = attachment.tap.map { NIC.HostEnd.tap($0) } ?? .interface { name in try network.connect(name, to: endpoint) }
        return NIC(mac: "\(endpoint.mac)", mtu: Int(endpoint.mtu), end: end)
    }

    /// Finds each mount's source on the host, making what Docker would make.
    private func resolveMounts() throws -> [ResolvedMount] {
        try record.mounts.map { mount in
            switch mount.source {
            case .tmpfs: return ResolvedMount(mount: mount)
            case .volume(let name, _):
                return ResolvedMount(
                    mount: mount, hostPath: try Volumes(root: roots.volumes).make(name).path)
            case .bind(let path):
                var status = stat()
                if stat(path, &status) != 0 {
                    guard errno == ENOENT, !mount.options.contains("must-exist"), saved == nil else {
                        throw SandboxError(
                            "the mount's source \(path) cannot be used", cause: SystemError("look at", path))
                    }
                    try makeDirectories(path, mode: 0o755)
                    return ResolvedMount(mount: mount, hostPath: path)
                }
                if status.st_mode & S_IFMT == S_IFSOCK { return ResolvedMount(mount: mount, socket: try HostSocket(path)) }
                var resolved = ResolvedMount(mount: mount, hostPath: path, isFile: status.st_mode & S_IFMT != S_IFDIR)
                try resolved.follow(own: "\(paths.runtime)/machine")
                return resolved
            }
        }
    }

    /// From the first byte of the agent to the last of the container.
    private func serve(
        _ machine: any VirtualMachine, isClone: Bool, _ mounts: [ResolvedMount], _ attaching: BegunAttachment?,
        _ streams: Streams,
        _ descriptors: HandedDescriptors, _ channel: Channel, _ announcer: Announcer, _ chronicle: Chronicle
    ) async throws -> ContainerState.Exit {
        do {
            let agent = AgentConnection(stream: try await machine.connect())
            var remarks = GuestRemarks()
            agent.onLog = { if let line = remarks.take($0) { StandardStreams.complain(line) } }
            let endpoint = attaching?.attachment.endpoint
            // It ends with the machine or the stream, of which everybody else is told.
            let watching = Task { @Loop in try? await DescriptorGuard.watch(machine, agent) }
            defer { watching.cancel() }
            let process: GuestProcess
            var (mounts, streams, descriptors, channel) = (mounts, streams, descriptors, channel)
            if let saved {
                try await attaching?.connected()
                process = try await saved.resume(agent, planner, endpoint)
            } else {
                // A clone's agent is there, and told at once; one that boots is to be known first.
                let greeting = Task { @Loop in
                    try await agent.greet(isClone: isClone)
                    self.isGreeted = true
                }
                if !isClone { try await Self.value(of: greeting) }
                let configuring = Task { @Loop in try await self.configure(agent, machine.guest, isClone: isClone, endpoint) }
                try await Self.value(of: greeting)
                Fault.point("agent:hello")
                if record.pool != nil {
                    try await attaching?.connected()
                    try await Self.outcome(of: configuring, within: AgentConnection.bootDeadline, awaiting: "the guest's set-up")
                    let claim = try await waitForContainer(agent, machine, channel)
                    (streams, descriptors, channel) = (claim.streams, claim.descriptors, claim.channel)
                    mounts = try resolveMounts()
                    announcer.turn(to: channel)
                }
                process = try await begin(agent, machine.guest, mounts, attaching, streams, after: configuring)
            }
            // The machine's alone from here on: it goes with it, and nothing of it is left when the end is told.
            try attaching?.attachment.tap?.letGo()
            let output = ProcessStreams(process, log: try LogWriter(paths.log))
            let container = RunningContainer(
                record: record, planner: planner, agent: agent, process: process, streams: output,
                machine: machine, announcer: announcer, chronicle: chronicle, origin: origin)
            if let saved { container.numbers.last = saved.manifest.saved.lastProcess }
            let relays = SocketRelays(agent, container: planner.guestName, mounts) { container.numbers.next() }
            defer { relays.stop() }
            // Who reads that it runs may ask at once.
            let server = try MonitorServer(container, at: paths.socket)
            try chronicle.running(
                addresses: endpoint.map { ["\($0.ipv4.address)"] + ($0.ipv6.map { ["\($0.address)"] } ?? []) } ?? [],
                ports: endpoint?.ports.map { $0.displayText } ?? [])
            if saved != nil { unlink(paths.restoring) }
            await server.adopt(channel, streams, descriptors)
            self.container = container
            let exit = try await container.finish(keepsDisk: !record.autoRemove) {
                guard let resident = self.resident else {
                    self.leaveNetwork()
                    return false
                }
                try await self.park(machine, agent, resident)
                return true
            }
            await server.stop()
            return exit
        } catch {
            throw await explained(error, machine)
        }
    }

    /// Sets the guest up.
    private func configure(_ agent: AgentConnection, _ guest: GuestLayout, isClone: Bool, _ endpoint: Endpoint?) async throws {
        var sandbox = planner.sandbox(guest, endpoint: endpoint, entropy: Self.entropy(), now: Timestamp.now.nanoseconds)
        // The template has mounted it.
        if isClone { sandbox.modules = nil }
        try await agent.configure(sandbox, followsClock: false)
    }

    /// Waits in a pool until a verb has a container for the machine, whose record is this sandbox's from then on.
    private func waitForContainer(_ agent: AgentConnection, _ machine: any VirtualMachine, _ channel: Channel) async throws
        -> Claim
    {
        agent.followClock()
        try await withDeadline(AgentConnection.bootDeadline, awaiting: "the guest's rehearsal") {
            try await self.prepare(agent, machine.guest)
        }
        let claim = try await PoolMember(ContainerStore(roots), paths).wait(machine) { try await channel.send(Reply.done) }
        record = claim.record
        planner = Planner(record)
        return claim
    }

    /// Starts the container's first process, once the guest is set up.
    private func begin(
        _ agent: AgentConnection, _ guest: GuestLayout, _ mounts: [ResolvedMount], _ attaching: BegunAttachment?,
        _ streams: Streams,
        after configuring: Task<Void, any Error>
    ) async throws -> GuestProcess {
        // All at once: the agent carries them out in order, and does not stand idle while an answer travels.
        let made = try planner.container(guest, mounts: mounts, endpoint: attaching?.attachment.endpoint)
        let first = try planner.process(record.process, number: 1, isExec: false, streams: streams)
        let creating = Task { @Loop in try await agent.createContainer(made) }
        // Nothing of the container's runs before its network is there.
        try await attaching?.connected()
        Fault.point("network:connected")
        let starting = Task { @Loop in try await agent.start(first) }
        // The first failure is the one that explains the others, and a guest that fell silent must not hold the host for ever.
        // (An empty volume gets what the image has at its place, which may be much.)
        try await Self.outcome(of: configuring, within: AgentConnection.bootDeadline, awaiting: "the guest's set-up")
        try await Self.outcome(of: creating, within: .seconds(1800), awaiting: "the container's root in the guest")
        let process = try await Self.outcome(
            of: starting, within: AgentConnection.bootDeadline, awaiting: "the start of the container's command")
        agent.followClock()
        return process
    }

    static func outcome<R: Sendable>(
        of task: Task<R, any Error>, within duration: Duration, awaiting awaited: String
    ) async throws -> R {
        try await withDeadline(duration, awaiting: awaited) { try await value(of: task) }
    }

    /// Who waits for it and is cancelled cancels it.
    private static func value<R: Sendable>(of task: Task<R, any Error>) async throws -> R {
        try await withTaskCancellationHandler {
            try await task.value
        } onCancel: {
            task.cancel()
        }
    }

    /// An error that broke the stream to the agent is explained by the machine's end, if that is what broke it.
    private func explained(_ error: any Error, _ machine: any VirtualMachine) async -> any Error {
        // A program that is missing is nobody's crash.
        if let failure = error as? AgentFailure { return SandboxError(agent: failure) }
        if error is HostNetworkError { return error }
        guard let exit = await machine.ended(within: .milliseconds(300)) else {
            // It runs on: the error stands for itself, with what the guest said last.
            let tail = machine.consoleTail(lines: 20)
            return tail.isEmpty
                ? error : SandboxError("\(error)\nthe last of the guest's console:\n\(tail)")
        }
        return SandboxError(exit: exit)
    }

    static func entropy() -> [UInt8] {
        var random = SystemRandomNumberGenerator()
        return (0..<64).map { _ in UInt8.random(in: 0...255, using: &random) }
    }
}

extension PublishedPort {
    /// `0.0.0.0:8080->80/tcp`, as Docker lists it.
    var displayText: String {
        "\(hostAddress.map { "\($0)" } ?? "0.0.0.0"):\(hostPort)->\(containerPort)/\(transport.rawValue)"
    }
}

extension SandboxError {
    /// What the agent could not do, with Docker's exit codes for a command that cannot run.
    init(agent failure: AgentFailure) {
        let code: Int32
        switch failure.code {
        case .commandNotFound: code = 127
        case .notExecutable, .wrongArchitecture: code = 126
        default: code = 125
        }
        self.init(failure.message, exitCode: code)
    }

    /// Why a machine ended that should not have.
    init(exit: MachineExit) {
        let what: String
        switch exit.reason {
        case .poweredOff: what = "the guest powered itself off"
        case .reset: what = "the guest reset itself"
        case .panicked: what = "the guest's kernel panicked"
        case .stopped: what = "the machine was stopped"
        case .destroyed: what = "the machine was destroyed by somebody else"
        case .vmmDied(let status): what = "the VMM ended (\(status.text))"
        case .helperDied(let role, let status):
            what = "\(role) ended (\(status.text)), and the machine with it"
        }
        var text = what
        if !exit.complaints.isEmpty { text += "; it said:\n\(exit.complaints)" }
        if !exit.consoleTail.isEmpty {
            text += "\nthe last of the guest's console:\n\(exit.consoleTail)"
        }
        self.init(text, exitCode: exit.reason == .stopped || exit.reason == .destroyed ? 137 : 125)
    }
}

extension ExitStatus {
    var text: String {
        switch self {
        case .code(let code): "exit code \(code)"
        case .signal(let signal): "signal \(signal)"
        }
    }
}
