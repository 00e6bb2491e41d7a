import AgentClient
import AgentProtocol
import FoundationEssentials
import Glibc
import LinuxSystem
import Machines
import Storage

/// What a machine that waits in a pool was taken for.
struct Claim {
    var record: ContainerRecord
    var streams: Streams
    var descriptors: HandedDescriptors
    var channel: Channel
}

/// A machine that waits, in its monitor: the first verb that claims it has it.
@Loop
final class PoolMember {
    private let store: ContainerStore
    private let paths: ContainerPaths
    private var accepting: Task<Void, Never>?
    private var isTaken = false
    private var waiting: CheckedContinuation<Claim, any Error>?
    /// What came before anybody waited.
    private var early: Result<Claim, any Error>?

    init(_ store: ContainerStore, _ paths: ContainerPaths) {
        self.store = store
        self.paths = paths
    }

    /// Listens, calls `ready`, and waits to be claimed. Throws when the machine ends, or when who claimed it is gone before it started anything.
    func wait(_ machine: any VirtualMachine, ready: () async throws -> Void) async throws -> Claim {
        let listener = try UnixSocket.listen(paths.socket)
        accepting = acceptVerbs(at: listener) { [weak self] socket in
            guard let self else { return false }
            Task { @Loop in await self.serve(Channel(socket)) }
            return true
        }
        // A machine that nobody uses can end, too.
        let watching = Task { @Loop [weak self] in
            while !Task.isCancelled {
                if await machine.ended(within: .seconds(3600)) != nil {
                    self?.finish(.failure(SandboxError("the machine ended while it waited")))
                }
            }
        }
        defer {
            watching.cancel()
            accepting?.cancel()
        }
        try await ready()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                if let early { continuation.resume(with: early) } else { waiting = continuation }
            }
        } onCancel: {
            Task { @Loop in self.finish(.failure(CancellationError())) }
        }
    }

    private func finish(_ result: Result<Claim, any Error>) {
        guard let waiting else {
            early = early ?? result
            return
        }
        waiting.resume(with: result)
        self.waiting = nil
    }

    private func serve(_ channel: Channel) async {
        do {
            guard let (request, _) = try await channel.nextRequest() else { return }
            guard case .claim(let record) = request.verb else {
                throw SandboxError("this machine waits for a container, and has none", exitCode: 1)
            }
            try take(record)
            try await begin(record, channel)
        } catch {
            // Whoever is gone cannot be told.
            try? await channel.send(Reply(error))
        }
    }

    /// The record becomes the container's, in one step and under a name that is free.
    private func take(_ record: ContainerRecord) throws {
        guard !isTaken else { throw MemberTaken() }
        guard record.id == paths.id, record.pool == nil else { throw SandboxError("the record is not of this machine") }
        let lock = try FileLock.acquire(store.roots.storeLock)
        defer { withExtendedLifetime(lock) {} }
        try store.checkFree(record.name)
        try replaceFile(paths.record, Array(try JSONEncoder().encode(record)))
        isTaken = true
        Fault.point("pool:claimed")
    }

    private func begin(_ record: ContainerRecord, _ channel: Channel) async throws {
        do {
            try await channel.send(Reply.done)
            guard let (request, descriptors) = try await channel.nextRequest(), case .start(let streams) = request.verb else {
                throw SandboxError("container \(record.name) was asked to end before it ran", exitCode: 128 + SIGTERM)
            }
            finish(.success(Claim(record: record, streams: streams, descriptors: descriptors, channel: channel)))
        } catch {
            finish(.failure(error))
            throw error
        }
    }
}

extension Sandbox {
    /// Sets the guest up as far as that goes without knowing the container, and has its kernel and the hypervisor do once, for
    /// a container that is nobody's, what the start of every container does: under software emulation code that ran before runs ten times
    /// as fast.
    func prepare(_ agent: AgentConnection, _ guest: GuestLayout) async throws {
        var rehearsal = try planner.container(guest, mounts: [], endpoint: nil)
        rehearsal.id = "rehearsal"
        // What it writes is nowhere.
        rehearsal.root.upper = nil
        try await agent.createContainer(rehearsal)
        var process = try planner.process(record.process, number: 1 << 40, isExec: false, streams: Streams())
        process.container = rehearsal.id
        process.arguments = ["/.hull-rehearsal"]
        do {
            _ = try await agent.start(process)
        } catch let failure as AgentFailure where failure.code == .commandNotFound {
            // All was done but the last step, as it should be.
        }
        try await agent.removeContainer(rehearsal.id)
    }
}
