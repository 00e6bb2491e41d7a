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
        store = ContainerStore(roots)
        self.drivers = drivers
    }

    /// Does all of it; `first` is the connection of the verb that started this process. Returns the exit code.
    public func run(first: SharedDescriptor) async -> Int32 {
        let channel = Channel(first)
        let announcer = Announcer(first: channel)
        do {
            let signals = try Signals([SIGTERM, SIGINT, SIGHUP])
            guard let (request, descriptors) = try await channel.receive(Request.self),
                case .start(let streams) = request.verb
            else { return 125 }
            let code = try await own(channel, streams, descriptors, signals, announcer)
            return code
        } catch {
            await announcer.failed(error)
            return (error as? any HullError)?.exitCode ?? 125
        }
    }

    /// Takes the container, runs it, and leaves nothing.
    private func own(
        _ channel: Channel, _ streams: Streams, _ descriptors: [SharedDescriptor], _ signals: Signals,
        _ announcer: Announcer
    ) async throws -> Int32 {
        guard let lock = try takeLock(), let container = try store.load(paths.id),
            !container.state.isLive
        else {
            throw SandboxError("container \(paths.id.prefix(12)) is running already, or is gone")
        }
        defer { withExtendedLifetime(lock) {} }
        guard let identity = ProcessIdentity(pid: Self.pidOnHost()),
            let make = drivers[container.record.machine.hypervisor]
        else {
            throw SandboxError(
                "unknown hypervisor \"\(container.record.machine.hypervisor)\": \(drivers.keys.sorted().joined(separator: ", ")) is known"
            )
        }
        let ledger = try Ledger(paths)
        try await ledger.hold(.file(paths.runtime)) {}
        let chronicle = Chronicle(store, paths.id, monitor: identity)
        try chronicle.starting()
        let sandbox = Sandbox(container.record, paths: paths, roots: roots, hypervisor: make(), ledger: ledger)
        do {
            let exit = try await sandbox.run(streams, descriptors, channel, signals, announcer, chronicle)
            return await conclude(container, .success(exit), chronicle, ledger, announcer)
        } catch {
            return await conclude(container, .failure(error), chronicle, ledger, announcer)
        }
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
        do {
            Fault.point("undo")
            try chronicle.exited(&exit)
            try await ledger.undoAll()
            if container.record.autoRemove { try Removal(store).removeStopped(container, volumes: true) }
        } catch {
            // The next verb tries again: what is left stands in the ledger.
            StandardStreams.complain("hull-monitor: cleaning up: \(error)")
        }
        switch outcome {
        case .success: await announcer.ended(exit)
        case .failure(let error): await announcer.failed(error)
        }
        return exit.code
    }

    /// The lock that says this container lives. A verb that collects left-overs may take the folder away meanwhile: again then.
    private func takeLock() throws -> FileLock? {
        for _ in 0..<100 {
            try makeDirectories(paths.runtime)
            // A folder that went away between these two lines is made again.
            guard exists(paths.runtime), let lock = try FileLock.attempt(paths.lock) else { return nil }
            if exists(paths.lock) { return lock }
        }
        return nil
    }

    /// Our pid as the host sees it: /proc is the host's here.
    private static func pidOnHost() -> Int32 {
        var buffer = [CChar](repeating: 0, count: 32)
        let count = readlink("/proc/self", &buffer, 31)
        return Int32(
            String(decoding: buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self))
            ?? 1
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
    private let first: Channel
    private var waiting: [Channel]
    private var begun = false

    init(first: Channel) {
        self.first = first
        waiting = [first]
    }

    /// It runs: the verb that started it may be told.
    func started() async {
        begun = true
        await tell(first, .done)
    }

    /// Adds somebody who wants to know the end.
    func add(_ channel: Channel) { waiting.append(channel) }
    func remove(_ channel: Channel) { waiting.removeAll { $0 === channel } }

    func ended(_ exit: ContainerState.Exit) async {
        for channel in waiting {
            await tell(channel, .exited(code: exit.code, oomKilled: exit.oomKilled))
        }
    }

    func failed(_ error: any Error) async {
        for channel in waiting { await tell(channel, Reply(error)) }
    }

    private func tell(_ channel: Channel, _ reply: Reply) async {
        // Whoever is gone cannot be told.
        try? await channel.send(reply)
    }
}
