import AgentClient
import AgentProtocol
import FoundationEssentials
import Glibc
public import LinuxSystem
public import Machines

/// The owner of one sandbox, from before anything is made until everything is gone: PID 1 of a pid namespace, so that its
/// death is the death of the VMM and of every helper. It ends with its first container's exit code.
@Loop
public final class SandboxMonitor {
    private let paths: ContainerPaths
    private let roots: Roots
    private let store: ContainerStore
    private let drivers: [String: @Sendable () -> any Hypervisor]

    /// For the container `id`, by one of `drivers` (named as `--hypervisor` has them).
    public nonisolated init(
        id: String, roots: Roots, drivers: [String: @Sendable () -> any Hypervisor]
    ) {
        paths = roots.container(id)
        self.roots = roots
        store = ContainerStore(roots, drivers: drivers)
        self.drivers = drivers
    }

    /// Does all of it; `first` is the connection of the verb that started this process. Returns the exit code.
    public func run(first: SharedDescriptor) async -> Int32 {
        let channel = Channel(first)
        let announcer = Announcer(first: channel)
        do {
            let signals = try Signals([SIGTERM, SIGINT, SIGHUP])
            guard let (request, descriptors) = try await channel.nextRequest(),
                let (streams, saved) = try Self.beginning(request.verb)
            else { return 125 }
            let code = try await own(channel, streams, saved, descriptors, signals, announcer)
            return code
        } catch {
            await announcer.failed(error)
            return (error as? any HullError)?.exitCode ?? 125
        }
    }

    /// How it begins, if the verb says so.
    private static func beginning(_ verb: Request.Verb) throws -> (Streams, SavedContainer?)? {
        switch verb {
        case .start(let streams): (streams, nil)
        case .keep: (Streams(), nil)
        case .restore(let folder, let isFork, let streams): (streams, try SavedContainer(folder, isFork: isFork))
        default: nil
        }
    }

    /// Takes the container, runs it, and leaves nothing.
    private func own(
        _ channel: Channel, _ streams: Streams, _ saved: SavedContainer?, _ descriptors: HandedDescriptors, _ signals: Signals,
        _ announcer: Announcer
    ) async throws -> Int32 {
        let lock = try await takeLock()
        defer { withExtendedLifetime(lock) {} }
        guard var container = try store.load(paths.id) else {
            try paths.removeRuntime()
            throw SandboxError("container \(paths.id.prefix(12)) was removed meanwhile")
        }
        guard !container.state.isLive else { throw alreadyRunning }
        guard let identity = ProcessIdentity(pid: Self.pidOnHost()),
            let make = drivers[container.record.machine.hypervisor]
        else {
            throw SandboxError(
                "unknown hypervisor \"\(container.record.machine.hypervisor)\": \(drivers.keys.sorted().joined(separator: ", ")) is known"
            )
        }
        let ledger = try Ledger(paths, drivers: drivers)
        try await ledger.hold(.folder(paths.runtime)) {}
        let chronicle = Chronicle(store, paths.id, monitor: identity)
        try chronicle.starting()
        let isFirstStart = if case .created = container.state.status { true } else { false }
        let sandbox = Sandbox(
            container.record, paths: paths, roots: roots, hypervisor: make(), ledger: ledger,
            drivers: drivers, isFirstStart: isFirstStart, saved: saved)
        let life = Task { @Loop in try await sandbox.run(streams, descriptors, channel, announcer, chronicle) }
        let asked = Task { @Loop in
            // The host, or a verb that cannot wait for the boot, asks the monitor to end. One that waits for a silent guest ends too.
            while true {
                _ = try await signals.next()
                if let running = sandbox.container {
                    await running.stop(
                        signal: Signals.number(sandbox.record.stopSignal) ?? SIGTERM, seconds: sandbox.record.stopTimeout)
                } else {
                    life.cancel()
                }
            }
        }
        var outcome = await life.result
        asked.cancel()
        // One that waited in a pool may have become a container meanwhile, also one that never ran.
        if let now = try store.load(paths.id) { container.record = now.record }
        if case .failure = outcome, life.isCancelled {
            outcome = .failure(
                SandboxError("container \(container.name) was asked to end before it ran", exitCode: 128 + SIGTERM))
        }
        return await conclude(container, outcome, chronicle, ledger, announcer)
    }

    /// Writes down how it ended, takes everything back, and then tells those who wait.
    private func conclude(
        _ container: Container, _ outcome: Result<ContainerState.Exit, any Error>, _ chronicle: Chronicle, _ ledger: Ledger,
        _ announcer: Announcer
    ) async -> Int32 {
        var exit: ContainerState.Exit
        switch outcome {
        case .success(let end): exit = end
        case .failure(let error):
            exit = ContainerState.Exit(code: (error as? any HullError)?.exitCode ?? 125, finished: 0, error: "\(error)")
        }
        Fault.point("undo")
        // Each step is tried, whatever became of the one before (a full disk must not keep a network): what is left stands in the
        // ledger, for the next verb. The container goes before the lock does, or somebody could start it in between.
        cleanUp { try chronicle.exited(&exit) }
        if container.record.autoRemove { cleanUp { try Removal(store).removeStopped(container, volumes: true) } }
        do { try await ledger.undoAll() } catch { StandardStreams.complain("hull-monitor: cleaning up: \(error)") }
        switch outcome {
        case .success: await announcer.ended(exit, nil)
        case .failure(let error): await announcer.ended(exit, error)
        }
        return exit.code
    }

    private func cleanUp(_ step: () throws -> Void) {
        do { try step() } catch { StandardStreams.complain("hull-monitor: cleaning up: \(error)") }
    }

    private var alreadyRunning: SandboxError {
        SandboxError("container \(paths.id.prefix(12)) is running already, or just being started by somebody else", exitCode: 1)
    }

    /// The lock that says this container lives. A verb that collects left-overs may hold it for a moment, and may take the folder
    /// away: again then. Another monitor holds it for good.
    private func takeLock() async throws -> FileLock {
        let deadline = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < deadline {
            if let lock = try paths.attemptLock(making: true) { return lock }
            if try store.load(paths.id)?.state.isLive == true { throw alreadyRunning }
            try await sleep(for: .milliseconds(5))
        }
        throw alreadyRunning
    }

    /// Our pid as the host sees it: /proc is the host's here.
    static func pidOnHost() -> Int32 {
        readLink("/proc/self").flatMap { Int32($0) } ?? 1
    }
}

/// Keeps a container's state on disk in step with its life.
@Loop
final class Chronicle {
    private let store: ContainerStore
    private let id: String
    private var running: ContainerState.Running

    init(_ store: ContainerStore, _ id: String, monitor: ProcessIdentity) {
        self.store = store
        self.id = id
        // Without a boot id a reboot shows by the lock, which nobody holds.
        let boot = (try? readText("/proc/sys/kernel/random/boot_id"))?.split(separator: "\n").first.map(String.init)
        running = ContainerState.Running(
            monitor: monitor, started: Timestamp.now.nanoseconds, boot: boot ?? "", addresses: [], ports: [])
    }

    func starting() throws {
        try store.save(ContainerState(.starting(running)), of: id)
        Fault.point("saved:starting")
    }

    func running(addresses: [String], ports: [String]) throws {
        running.addresses = addresses
        running.ports = ports
        running.started = Timestamp.now.nanoseconds
        try store.save(ContainerState(.running(running)), of: id)
        Fault.point("saved:running")
    }

    /// Its machine stands still, or goes on.
    func paused(_ paused: Bool) throws {
        running.paused = paused
        try store.save(ContainerState(.running(running)), of: id)
    }

    /// Adds the times to `exit`, and writes it.
    func exited(_ exit: inout ContainerState.Exit) throws {
        exit.started = running.started
        exit.finished = Timestamp.now.nanoseconds
        try store.save(ContainerState(.exited(exit)), of: id)
        Fault.point("saved:exited")
    }
}

/// Who is to be told how it ended: the verb that started it, and all that attached or wait.
@Loop
final class Announcer {
    private var first: Channel
    private var attached: [Channel]
    private var waiting: [Channel] = []

    init(first: Channel) {
        self.first = first
        attached = [first]
    }

    /// Another verb starts it than the one that made its machine wait.
    func turn(to channel: Channel) {
        first = channel
        attached = [channel]
    }

    /// It runs: the verb that started it may be told.
    func started() async { await tell(first, .done) }

    /// Adds somebody who is attached, and is to know why it ended.
    func attach(_ channel: Channel) { attached.append(channel) }
    /// Adds somebody who only wants to know that it ended, and the code.
    func add(_ channel: Channel) { waiting.append(channel) }
    func remove(_ channel: Channel) { attached.removeAll { $0 === channel } }

    /// It ended; `error` is why it had to.
    func ended(_ exit: ContainerState.Exit, _ error: (any Error)?) async {
        let code = Reply.exited(code: exit.code, oomKilled: exit.oomKilled)
        for channel in attached { await tell(channel, error.map { Reply($0) } ?? code) }
        for channel in waiting { await tell(channel, code) }
    }

    /// It never was ours.
    func failed(_ error: any Error) async {
        for channel in attached { await tell(channel, Reply(error)) }
    }

    private func tell(_ channel: Channel, _ reply: Reply) async {
        // Whoever is gone cannot be told.
        try? await channel.send(reply)
    }
}
