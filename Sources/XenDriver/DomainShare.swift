import Glibc
import LinuxSystem
import MachineProcesses
import Machines

/// The share of a domain: a server that shares no memory with the guest, and what carries between them (docs/adr/026).
@Loop
final class DomainShare {
    let server: ShareServer
    private var relay: FileRelay?
    private var tasks: [Task<Void, Never>] = []
    private var serving: Task<ExitStatus, Never>?
    /// How the server ended, unless we ended it.
    private(set) var end: ExitStatus?
    private var isEnding = false
    /// Whether the guest's agent has offered memory for files, here or where it was saved: from then on it may have some open.
    private(set) var isInUse = false

    /// Starts the server. When it throws, nothing is left. `isRestored`: the guest may know files of another one's.
    init(_ share: Share, isRestored: Bool, confinement: Confinement, in directory: MachineDirectory) throws {
        guard let program = ShareServerProgram.find() else { throw ShareServerProgram.missing }
        server = try ShareServer(share, program, isRestored: isRestored, confinement: confinement, in: directory)
    }

    /// Comes to terms with the server, and takes from its root what it had to read. `failed` is told when the server has ended.
    func begin(from saved: FileRelay.Saved?, failed: @escaping @Loop () -> Void) async throws {
        isInUse = saved != nil
        let server = server
        serving = Task { @Loop in
            // Waiting for a child of ours fails only when it was reaped, which is done here alone.
            let status = (try? await server.process.child.wait()) ?? .code(-1)
            if !self.isEnding {
                self.end = status
                failed()
            }
            return status
        }
        tasks.append(Task { @Loop in await server.process.listen() })
        try server.release()
        do { relay = try await FileRelay(server.connection, from: saved) } catch {
            throw MachineError(
                .startFailed, "the share server cannot be used (it said: \(server.process.complaints))", cause: error)
        }
        try server.emptyRoot()
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
            guard let relay else { return }
            return try await memory.serve({ try await relay.carry(memory) })
        }
    }

    /// Throws where it could not be saved.
    func checkSaving() throws {
        guard isInUse, let relay, !relay.canBeSaved else { return }
        throw MachineError(
            .unsupported, "this virtiofsd cannot save what it knows of the guest's files: install virtiofsd 1.11 or newer")
    }

    /// Takes no request of the guest's any more, finishes what is under way, and leaves the guest's memory for files alone, until `goOn()`, be it that
    /// this throws. Returns what the next server must know; nil where the guest knows no file.
    func hold() async throws -> FileRelay.Saved? {
        guard let relay else { return nil }
        try await withDeadline(.seconds(60), awaiting: "the end of what the guest asks of its shared folders") {
            try await relay.hold()
        }
        return isInUse ? try await relay.save() : nil
    }

    func goOn() { relay?.goOn() }

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
