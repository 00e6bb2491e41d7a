import AgentClient
import AgentProtocol
import Glibc
import LinuxSystem
import Machines
import OCISpec

/// A sandbox that a container engine made: booted and held ready at `create`, let go at `start`.
@Loop
final class EngineSandbox {
    let record: ContainerRecord
    let paths: ContainerPaths
    let plan: BundlePlan
    private let roots: Roots
    private let hypervisor: any Hypervisor
    private let ledger: Ledger
    private let planner: Planner
    private(set) var container: EngineContainer?

    init(
        _ record: ContainerRecord, _ plan: BundlePlan, paths: ContainerPaths, roots: Roots, hypervisor: any Hypervisor,
        ledger: Ledger
    ) {
        self.record = record
        self.plan = plan
        self.paths = paths
        self.roots = roots
        self.hypervisor = hypervisor
        self.ledger = ledger
        planner = Planner(record)
    }

    /// Boots, makes the container, serves it to its end, and ends the machine. `created` is called once it stands ready.
    func run(
        _ streams: Streams, _ descriptors: HandedDescriptors, _ chronicle: Chronicle, created: @escaping @Loop () async -> Void
    ) async throws -> ContainerState.Exit {
        let mounts = try resolveMounts()
        let network = try NamespaceNetwork()
        if plan.network != .host { try await network.attach() }
        let identifiers = try await Identifiers.take(roots, owner: record.id, ledger)
        let nics = network.nics
        let host = Planner.Host(
            kernel: "", modulesDisk: nil, consoleLog: paths.console, disk: paths.disk,
            // The monitor is in the cgroup, and so is whoever it starts.
            confinement: Confinement(uidBase: identifiers), nic: nics.first)
        var spec = try await Booting(record: record, cache: roots.cache, hypervisor: hypervisor).complete(host, planner, mounts)
        spec.nics = nics
        let folder = "\(paths.runtime)/machine"
        try makeDirectories(folder)
        do {
            let exit = try await hypervisor.withMachine(.boot(spec), in: MachineDirectory(folder)) { machine in
                try await self.serve(machine, network, streams, descriptors, chronicle, created)
            }
            await network.detach()
            return exit
        } catch {
            await network.detach()
            throw error
        }
    }

    private func resolveMounts() throws -> [ResolvedMount] {
        try record.mounts.map { mount in
            guard case .bind(let path) = mount.source else { return ResolvedMount(mount: mount) }
            var status = stat()
            guard stat(path, &status) == 0 else {
                throw SandboxError(
                    "error mounting \"\(path)\" to rootfs at \"\(mount.destination)\": stat \(path): \(String(cString: strerror(errno)).lowercased())",
                    exitCode: 1)
            }
            var resolved = ResolvedMount(mount: mount, hostPath: path, isFile: status.st_mode & S_IFMT != S_IFDIR)
            try resolved.follow(own: "\(paths.runtime)/machine")
            return resolved
        }
    }

    private func serve(
        _ machine: any VirtualMachine, _ network: NamespaceNetwork, _ streams: Streams, _ descriptors: HandedDescriptors,
        _ chronicle: Chronicle, _ created: @Loop () async -> Void
    ) async throws -> ContainerState.Exit {
        do {
            let agent = AgentConnection(stream: try await machine.connect())
            try await withDeadline(.seconds(120), awaiting: "the first word of the agent in the guest") {
                try await agent.hello()
            }
            var sandbox = planner.sandbox(
                machine.guest, endpoint: nil, entropy: Self.entropy(), now: Timestamp.now.nanoseconds)
            try network.configure(&sandbox.identity)
            let made = plan.container(id: record.id)
            let process = plan.spec.process ?? ProcessSpec(args: [])
            let first = try plan.process(process, container: record.id, number: 1, isExec: false, streams: streams)
            let id = record.id
            try await withDeadline(.seconds(120), awaiting: "the guest's set-up") { [sandbox] in
                try await agent.configure(sandbox, followsClock: false)
            }
            let relaying = try await relayNames(agent)
            defer { relaying?.cancel() }
            try await withDeadline(.seconds(600), awaiting: "the container's root in the guest") {
                try await agent.createContainer(made)
            }
            let held = try await withDeadline(.seconds(120), awaiting: "the container's process in the guest") {
                try await agent.start(first)
            }
            agent.followClock()
            let watching = Task { @Loop in try? await DescriptorGuard.watch(machine, agent) }  // ends with the machine
            defer { watching.cancel() }
            let output = ProcessStreams(held, log: nil, closesOutputs: !(process.terminal ?? false))
            _ = output.attach(streams, descriptors.take()) {}
            let container = EngineContainer(
                id: id, plan: plan, planner: planner, agent: agent, process: held, streams: output, machine: machine,
                chronicle: chronicle,
                addresses: try network.addresses())
            self.container = container
            let server = try EngineServer(container, at: paths.socket)
            await created()
            let exit = try await container.finish()
            server.stop()
            return exit
        } catch let failure as AgentFailure {
            throw SandboxError(agent: failure)
        } catch {
            guard let end = await machine.ended(within: .milliseconds(300)) else { throw error }
            throw SandboxError(exit: end)
        }
    }

    /// Docker's resolver is at a loopback address, which is another one in the guest: its queries are relayed.
    private func relayNames(_ agent: AgentConnection) async throws -> Task<Void, Never>? {
        guard let server = plan.loopbackResolver else { return nil }
        var configuration = ProcessConfiguration()
        configuration.process = 2
        configuration.relay = server
        configuration.wantsInput = true
        let process = try await agent.start(configuration)
        let relay = NameRelay(process, server: server)
        return Task { @Loop in await relay.run() }
    }

    private static func entropy() -> [UInt8] {
        var random = SystemRandomNumberGenerator()
        return (0..<64).map { _ in UInt8.random(in: 0...255, using: &random) }
    }
}
