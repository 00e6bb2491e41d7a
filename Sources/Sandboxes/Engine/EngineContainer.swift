import AgentClient
import AgentProtocol
import Glibc
import LinuxSystem
import Machines
import OCISpec

/// An engine's container while it is there: what its monitor's requests act on.
@Loop
final class EngineContainer {
    let id: String
    let plan: BundlePlan
    /// The seccomp program of its processes.
    private let filter: [UInt8]
    let agent: AgentConnection
    let process: GuestProcess
    let streams: ProcessStreams
    let machine: any VirtualMachine
    private let chronicle: Chronicle
    private let addresses: [String]
    private let numbers: ProcessNumbers
    /// Whether it is in another container's machine.
    private let isMember: Bool
    /// Its machine's size, where that can change and is this container's to change.
    private let size: EngineSize?
    private var isForced = false
    private(set) var isStarted = false
    private(set) var isPaused = false
    private var isPausing = false
    /// What stands it still, lets it go on, changes or saves it: whoever asked may have been killed, and others ask the next thing.
    let turns = Turns()
    /// Those of its own sockets, for one that joined.
    var relays: SocketRelays?
    /// The host processes of execs that run.
    var holders: [Int32] = []

    init(
        id: String, plan: BundlePlan, filter: [UInt8], agent: AgentConnection, process: GuestProcess,
        streams: ProcessStreams, machine: any VirtualMachine, chronicle: Chronicle, addresses: [String], numbers: ProcessNumbers,
        isMember: Bool,
        size: EngineSize? = nil
    ) {
        self.size = size
        self.numbers = numbers
        self.isMember = isMember
        self.id = id
        self.plan = plan
        self.filter = filter
        self.agent = agent
        self.process = process
        self.streams = streams
        self.machine = machine
        self.chronicle = chronicle
        self.addresses = addresses
    }

    /// Lets the command run.
    func start() async throws {
        guard !isStarted else { throw SandboxError("cannot start an already running container", exitCode: 1) }
        isStarted = true
        let agent = agent
        let process = process
        do {
            try await withDeadline(.seconds(120), awaiting: "the start of the container's command") {
                try await agent.release(process)
            }
        } catch let failure as AgentFailure {
            throw SandboxError(agent: failure)
        }
        try chronicle.running(addresses: addresses, ports: [])
    }

    /// Its command runs already: it was saved so.
    func hasBegun() throws {
        isStarted = true
        try chronicle.running(addresses: addresses, ports: [])
    }

    /// Waits for the end of the first process, or of the machine, and ends the machine; `besideItsEnd` is called while it does.
    func finish(besideItsEnd: @Loop () throws -> Void = {}) async throws -> ContainerState.Exit {
        defer { relays?.stop() }
        await streams.carry()
        let status: ExitStatus
        do { status = try await process.wait() } catch {
            if isForced { return ContainerState.Exit(code: 137, finished: 0, oomKilled: false) }
            throw error
        }
        // What was written to the share is on the host already: the guest keeps nothing back.
        if !isMember {
            let stopping = Task { @Loop [machine] in await machine.stop(grace: .zero) }
            await Task.yield()  // it has sent its signal
            do { try besideItsEnd() } catch { StandardStreams.complain("hull-runtime: \(error)") }
            await stopping.value
        }
        return ContainerState.Exit(code: status.shellCode, finished: 0, oomKilled: process.outOfMemory)
    }

    /// Another process.
    func exec(_ settings: ProcessSpec, _ streams: Streams) async throws -> GuestProcess {
        if isPausing { await turns.take {} }
        guard !isPaused else { throw SandboxError("cannot exec in a paused container", exitCode: 1) }
        let number = numbers.next()
        let agent = agent
        let configuration = try plan.process(
            settings, container: id, number: number, isExec: true, streams: streams, filter: filter)
        do {
            return try await withDeadline(.seconds(120), awaiting: "the start of the command in the guest") {
                try await agent.start(configuration)
            }
        } catch let failure as AgentFailure {
            throw SandboxError(agent: failure)
        }
    }

    /// Sends a signal to the first process, or to all. SIGKILL ends it even where the guest does not obey.
    func kill(_ signal: Int32, all: Bool) async throws {
        if isPaused || isPausing, signal == SIGKILL { try await turns.take { if isPaused { try await goOn() } } }
        let process = process
        let agent = agent
        let id = id
        do {
            try await withDeadline(.seconds(10), awaiting: "the guest's answer") {
                if all { try await agent.signalAll(in: id, signal) } else { try await process.signal(signal) }
            }
        } catch let failure as AgentFailure where failure.code == .unknown {
            // It has just ended, and its holder is about to: a signal to a process that nobody has waited for yet succeeds.
            return
        } catch is AgentConnectionError where signal == SIGKILL {
            return  // its machine is gone, and it with it
        } catch is DeadlineError where signal == SIGKILL {
            await force()
            return
        }
        if signal == SIGKILL { Task { @Loop in await self.insist() } }
    }

    /// After SIGKILL: a guest in which the process lives on is ended.
    private func insist() async {
        let process = process
        do {
            try await withDeadline(.seconds(5), awaiting: "the container's end") { _ = try await process.wait() }
            await streams.dropStalled()
        } catch is DeadlineError {
            await force()
        } catch {
            // The machine ended, which is what was wanted.
        }
    }

    /// Ends the machine.
    func force() async {
        isForced = true
        // The others in the machine go on.
        if !isMember { await machine.stop(grace: .zero) }
        await streams.dropStalled()
    }

    /// Stands the machine still; its processes first, so that none runs when it goes on for a save (containerd pauses before it asks for one).
    func pause() async throws {
        try await turns.take {
            guard !isPaused else { throw SandboxError("container not running", exitCode: 1) }
            isPausing = true
            defer { isPausing = false }
            if isMember {
                try await freeze(true)
            } else {
                // A guest that does not answer stands still all the same.
                try? await freeze(true)
                try await machine.pause()
            }
            isPaused = true
            try chronicle.paused(true)
        }
    }

    /// Lets it go on.
    func resume() async throws {
        try await turns.take {
            guard isPaused else { throw SandboxError("container not paused", exitCode: 1) }
            try await goOn()
        }
    }

    private func goOn() async throws {
        if !isMember { try await machine.resume() }
        try await freeze(false)
        isPaused = false
        try chronicle.paused(false)
    }

    /// Its cgroup in the guest stands still: all that a member, which shares its machine with others, can do.
    func freeze(_ frozen: Bool) async throws {
        var limits = ContainerLimits()
        limits.unified = [Setting("cgroup.freeze", frozen ? "1" : "0")]
        let agent = agent
        let id = id
        try await withDeadline(.seconds(5), awaiting: "the guest's answer") { [limits] in try await agent.update(id, limits) }
    }

    /// Changes its limits, in the guest and on the host, and the machine's size with them.
    func update(_ resources: ResourceLimits, host: Cgroup?) async throws {
        try await turns.take {
            let agent = agent
            let id = id
            let limits = BundlePlan.limits(resources)
            do {
                try await size?.grow(for: resources)
                try await withDeadline(.seconds(10), awaiting: "the guest's answer") { try await agent.update(id, limits) }
                try await size?.shrink(for: resources)
            } catch let failure as AgentFailure {
                throw SandboxError(agent: failure)
            }
            guard !isMember, let host else { return }
            try plan.boundProcessors(host, resources.cpu)
            try plan.boundRealtime(host, resources.cpu)
            try plan.boundDevices(host, resources.blockIO)
        }
    }

    /// What it used.
    func statistics() async throws -> ContainerStatistics {
        let agent = agent
        let id = id
        return try await withDeadline(.seconds(10), awaiting: "the guest's answer") { try await agent.statistics(of: id) }
    }
}
