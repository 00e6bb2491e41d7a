import AgentClient
import Glibc
public import LinuxSystem
public import Machines
import OCISpec

/// The owner of one sandbox of a container engine, and the process whose pid the engine holds. PID 1 of a pid namespace, like
/// `SandboxMonitor`; it passes signals on to the container's first process and ends with its exit code.
@Loop
public final class EngineMonitor {
    private let paths: ContainerPaths
    private let roots: Roots
    private let store: ContainerStore
    private let drivers: [String: @Sendable () -> any Hypervisor]
    private let terminal: SharedDescriptor?

    /// For the container of that Hull id. `terminal` is the host's side of its terminal, whose window's changes come as SIGWINCH.
    public nonisolated init(
        id: String, roots: Roots, drivers: [String: @Sendable () -> any Hypervisor], terminal: SharedDescriptor?
    ) {
        paths = roots.container(id)
        self.roots = roots
        store = ContainerStore(roots, drivers: drivers)
        self.drivers = drivers
        self.terminal = terminal
    }

    /// Does all of it; `first` is the connection of the verb that started this process. Returns the exit code.
    public func run(first: SharedDescriptor) async -> Int32 {
        let channel = Channel(first)
        do {
            let signals = try Signals(Self.passed + [SIGWINCH, SIGHUP])
            guard let (request, descriptors) = try await channel.nextRequest() else { return 1 }
            switch request.verb {
            case .engine(.create(let streams)): return try await own(channel, streams, nil, descriptors, signals)
            case .engine(.restore(let folder, let streams)):
                return try await own(channel, streams, try SavedContainer(folder, isFork: false), descriptors, signals)
            default: return 1
            }
        } catch {
            try? await channel.send(Reply(error))  // whoever is gone cannot be told
            return 1
        }
    }

    /// What is passed on to the container's process.
    public nonisolated static let passed = [SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2]

    private func own(
        _ channel: Channel, _ streams: Streams, _ saved: SavedContainer?, _ descriptors: HandedDescriptors, _ signals: Signals
    ) async throws -> Int32 {
        guard let container = try store.load(paths.id), let owner = container.record.engine else {
            throw SandboxError("container was removed meanwhile", exitCode: 1)
        }
        let plan = try BundlePlan(try RuntimeSpec(parsing: try readFile(paths.bundle)), bundle: owner.bundle)
        guard let identity = ProcessIdentity(pid: SandboxMonitor.pidOnHost()),
            let make = drivers[container.record.machine.hypervisor]
        else { throw SandboxError("unknown hypervisor \"\(container.record.machine.hypervisor)\"", exitCode: 1) }
        let ledger = try Ledger(paths, drivers: drivers)
        let chronicle = Chronicle(store, paths.id, monitor: identity)
        try chronicle.starting()
        let sandbox = EngineSandbox(
            container.record, plan, paths: paths, roots: roots, hypervisor: make(), ledger: ledger,
            saved: saved)
        let created = Created(channel)
        let hooked = saved == nil && plan.hasHostHooks ? Task { @Loop in try await Self.awaitHooks(channel) } : nil
        let life = Task { @Loop [terminal] in
            try await sandbox.run(streams, descriptors, chronicle, hooked: hooked) {
                ProcessTitle.set(container.record.process.arguments)
                // A size that came before the process had a terminal.
                await Self.pass(SIGWINCH, to: sandbox, nil, terminal)
                await created.tell()
            }
        }
        let listening = Task { @Loop [terminal] in
            while true {
                let signal = try await signals.next()
                await Self.pass(signal, to: sandbox, life, terminal)
            }
        }
        let outcome = await life.result
        listening.cancel()
        var exit: ContainerState.Exit
        switch outcome {
        case .success(let end): exit = end
        case .failure(let error):
            exit = ContainerState.Exit(code: (error as? any HullError)?.exitCode ?? 1, finished: 0, error: "\(error)")
            StandardStreams.complain("hull-runtime: \(error)")
        }
        if exit.oomKilled { await Self.showOutOfMemory(ledger) }
        cleanUp { try chronicle.exited(&exit) }
        do {
            // The cgroup, with us in it, and the folder go at `delete`.
            try await ledger.undo(where: { if case .identifiers = $0 { true } else { false } })
        } catch { StandardStreams.complain("hull-runtime: cleaning up: \(error)") }
        if case .failure(let error) = outcome { await created.fail(error) }
        return exit.code
    }

    private static func awaitHooks(_ channel: Channel) async throws {
        guard let (request, _) = try await channel.nextRequest(), case .engine(.hooked) = request.verb else {
            throw SandboxError("whoever ran the container's hooks is gone", exitCode: 1)
        }
    }

    private static func pass(
        _ signal: Int32, to sandbox: EngineSandbox, _ life: Task<ContainerState.Exit, any Error>?, _ terminal: SharedDescriptor?
    ) async {
        guard let container = sandbox.container else {
            if signal == SIGTERM || signal == SIGINT { life?.cancel() }
            return
        }
        let process = container.process
        // A process that has just ended takes no signal and has no window.
        try? await withDeadline(.seconds(5), awaiting: "the guest's answer") {
            switch signal {
            case SIGWINCH:
                if let terminal, let size = Terminal.size(terminal.raw) {
                    try await process.resize(rows: size.rows, columns: size.columns)
                }
            case SIGHUP: break  // an engine that let go of the terminal
            default: try await process.signal(signal)
            }
        }
    }

    /// Engines read from the host's cgroup whether memory ran out; the guest's own is invisible to them. So, the machine being gone, a
    /// child of ours runs out of memory there.
    static func showOutOfMemory(_ ledger: Ledger) async {
        guard let cgroup = ledger.engineCgroup,
            let usage = cgroup.number("memory", v1: "memory.usage_in_bytes", v2: "memory.current")
        else { return }
        do {
            try cgroup.set("memory", v1: "memory.limit_in_bytes", v2: "memory.max", "\(usage + (4 << 20))")
            var how = Spawn("/proc/self/exe", ["exhaust"], environment: [])
            how.arguments[0] = "hull-exhaust"
            how.oomScore = 1000
            how.deathSignal = SIGKILL
            let child = try how.spawn()
            do { try await withDeadline(.seconds(5), awaiting: "the kernel's verdict") { _ = try await child.wait() } } catch {
                child.signal(SIGKILL)
            }
        } catch { StandardStreams.complain("hull-runtime: telling the engine that memory ran out: \(error)") }
    }

    private func cleanUp(_ step: () throws -> Void) {
        do { try step() } catch { StandardStreams.complain("hull-runtime: cleaning up: \(error)") }
    }
}

/// The answer to `create`, given once.
@Loop
private final class Created {
    private var channel: Channel?
    init(_ channel: Channel) { self.channel = channel }

    func tell() async {
        // Whoever is gone cannot be told.
        try? await channel?.send(Reply.done)
        channel = nil
    }

    func fail(_ error: any Error) async {
        try? await channel?.send(Reply(error))  // as above
        channel = nil
    }
}
