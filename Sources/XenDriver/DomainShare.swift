import Glibc
import LinuxSystem
import MachineProcesses
import Machines

/// The share of a domain: a server that shares no memory with the guest, and what carries between them (docs/adr/026).
@Loop
final class DomainShare {
    let server: ShareServer
    private var relay: FileRelay?
    /// The guest's end of the relay, and the relay's.
    private let guest: SharedDescriptor
    private let stream: SharedDescriptor
    private var tasks: [Task<Void, Never>] = []
    private var serving: Task<ExitStatus, Never>?
    /// How the server ended, unless we ended it.
    private(set) var end: ExitStatus?
    private var isEnding = false
    /// Whether the guest's agent has offered memory for files: from then on it may have some open.
    private(set) var isInUse = false

    /// Starts the server. When it throws, nothing is left.
    init(_ share: Share, confinement: Confinement, in directory: MachineDirectory) throws {
        guard let program = ShareServerProgram.find() else { throw ShareServerProgram.missing }
        (guest, stream) = try makeSocketPair(nonBlocking: true)
        server = try ShareServer(share, program, isRestored: false, confinement: confinement, in: directory)
    }

    /// Comes to terms with the server, and takes from its root what it had to read. `failed` is told when files cannot be had any more, and why.
    func begin(failed: @escaping @Loop (String) -> Void) async throws {
        let server = server
        serving = Task { @Loop in
            // Waiting for a child of ours fails only when it was reaped, which is done here alone.
            let status = (try? await server.process.child.wait()) ?? .code(-1)
            if !self.isEnding {
                self.end = status
                failed("")
            }
            return status
        }
        tasks.append(Task { @Loop in await server.process.listen() })
        try server.release()
        let relay: FileRelay
        do { relay = try await FileRelay(server.connection) } catch {
            throw MachineError(
                .startFailed, "the share server cannot be used (it said: \(server.process.complaints))", cause: error)
        }
        self.relay = relay
        try server.emptyRoot()
        tasks.append(
            Task { @Loop in
                do { try await relay.carry(self.stream) } catch {
                    if !self.isEnding { failed("\(error)\n") }
                }
            })
    }

    /// Carries to and from the memory that the guest offers for files, when it does. Throws when the guest breaks a rule.
    func carry(_ store: Store, of domain: UInt32) async throws {
        let node = "/local/domain/\(domain)/data/hull-share"
        for await _ in try await store.watch(node) {
            guard let text = try await store.read(node), !text.isEmpty else { continue }
            guard let offer = MemoryOffer(text) else { throw MachineError(.refused, "the guest offers no memory: '\(text)'") }
            isInUse = true
            let memory = try SharedMemory(of: domain, offer)
            defer { memory.unmap() }
            return try await memory.carry(guest)
        }
    }

    /// Ends the server, and takes down what it had.
    func stop() async {
        isEnding = true
        server.kill()
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
        if let serving { _ = await serving.value }
        // Its mounts go with the monitor's namespace in any case.
        if serving == nil { server.abandon() } else { try? server.remove() }
        relay = nil
    }
}
