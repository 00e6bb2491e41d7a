import AgentClient
import Glibc
public import LinuxSystem
import Machines
import OCISpec

/// The process that stands for a container which joined another's sandbox (a pod's, or `container:`): the engine holds its pid. The
/// sandbox's monitor does the work, over one connection: the end of either is the other's.
@Loop
public final class EngineMember {
    private let paths: ContainerPaths
    private let store: ContainerStore
    private let sandbox: String
    private let terminal: SharedDescriptor?

    /// For the container of that Hull id, in the sandbox whose monitor listens at `sandbox`.
    public nonisolated init(id: String, roots: Roots, sandbox: String, terminal: SharedDescriptor?) {
        paths = roots.container(id)
        store = ContainerStore(roots)
        self.sandbox = sandbox
        self.terminal = terminal
    }

    /// Does all of it; `first` is the connection of the verb that started this process. Returns the exit code.
    public func run(first: SharedDescriptor) async -> Int32 {
        let verb = Channel(first)
        var isTold = false
        do {
            let signals = try Signals(EngineMonitor.passed + [SIGWINCH, SIGHUP])
            guard let (request, descriptors) = try await verb.nextRequest(), case .engine(.create(let streams)) = request.verb,
                let identity = ProcessIdentity(pid: SandboxMonitor.pidOnHost())
            else { return 1 }
            let client = MonitorClient(try UnixSocket.connect(sandbox))
            // This process sees what the engine mounted since the sandbox's monitor was made; that one may not.
            guard let container = try store.load(paths.id) else { return 1 }
            let mounts = try EngineSandbox.resolveMounts(container.record, paths, in: try .current())
            guard case .folder(let root) = container.record.root else { return 1 }
            let trees =
                try [DetachedMount(of: root, recursive: true).release()]
                + mounts.map { mount in
                    try DetachedMount(of: mount.hostPath ?? mount.socket?.path ?? "", recursive: !mount.isFile).release()
                }
            guard trees.count <= 60 else {
                throw SandboxError(
                    "a container that joins another's machine can have 59 mounts of the host's at most", exitCode: 1)
            }
            let handed = descriptors.take() + trees
            try await client.ask(.engine(.join(paths.id, streams, holder: identity)), descriptors: handed.map(\.raw))
            withExtendedLifetime(handed) {}
            try await client.expectDone()
            showView(mounts)
            ProcessTitle.set(container.record.process.arguments)
            try await verb.send(Reply.done)
            isTold = true
            let passing = Task { @Loop [terminal] in
                // A size that came before anybody listened for one.
                try await client.pass(SIGWINCH, terminal: terminal)
                while true { try await client.pass(try await signals.next(), terminal: terminal) }
            }
            let end: (code: Int32, oomKilled: Bool)
            do { end = try await client.expectExit() } catch { end = (137, false) }
            passing.cancel()
            if end.oomKilled { await EngineMonitor.showOutOfMemory(try Ledger(paths)) }
            return try conclude(ContainerState.Exit(code: end.code, finished: 0, oomKilled: end.oomKilled))
        } catch {
            if !isTold { try? await verb.send(Reply(error)) }  // whoever is gone cannot be told
            return (error as? any HullError)?.exitCode ?? 1
        }
    }

    private func showView(_ mounts: [ResolvedMount]) {
        do {
            guard let container = try store.load(paths.id), case .folder(let root) = container.record.root else { return }
            try ContainerView.build(root: root, mounts)
        } catch { StandardStreams.complain("hull-runtime: who joins this namespace sees the host's files: \(error)") }
    }

    private func conclude(_ exit: ContainerState.Exit) throws -> Int32 {
        var exit = exit
        if case .running(let running) = try store.load(paths.id)?.state.status { exit.started = running.started }
        exit.finished = Timestamp.now.nanoseconds
        try store.save(ContainerState(.exited(exit)), of: paths.id)
        return exit.code
    }
}

extension MonitorClient {
    /// Passes on to the container's process, or the exec's, what an engine sent to the process that stands for it. SIGWINCH becomes
    /// the size of `terminal`, the host's side of its terminal.
    public func pass(_ signal: Int32, terminal: SharedDescriptor?) async throws {
        switch signal {
        case SIGHUP: break  // an engine that let go of the terminal
        case SIGWINCH:
            if let terminal, let size = Terminal.size(terminal.raw) {
                try await say(.resize(rows: size.rows, columns: size.columns))
            }
        default: try await say(.signal(signal))
        }
    }
}
