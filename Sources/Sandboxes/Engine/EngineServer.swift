import AgentClient
import AgentProtocol
import Glibc
import LinuxSystem
import OCISpec

/// Answers what comes to the socket of an engine's container: `hull-runtime`, and those verbs of `hull` that change nothing of the
/// engine's.
@Loop
final class EngineServer {
    private let container: EngineContainer
    private let sandbox: EngineSandbox
    private let listener: SharedDescriptor
    private var accepting: Task<Void, Never>?
    private var waiting: [Channel] = []
    private let answering = AnswersUnderWay()

    init(_ container: EngineContainer, in sandbox: EngineSandbox, at path: String) throws {
        self.sandbox = sandbox
        self.container = container
        listener = try UnixSocket.listen(path)
        accepting = acceptVerbs(at: listener) { [weak self] socket in
            guard let self else { return false }
            Task { @Loop in await self.serve(socket) }
            return true
        }
    }

    /// Takes nobody new, and waits until all are answered.
    func stop() async {
        accepting?.cancel()
        await answering.settled()
    }

    private func serve(_ socket: SharedDescriptor) async {
        let channel = Channel(socket)
        do {
            guard let (request, descriptors) = try await channel.nextRequest() else { return }
            switch request.verb {
            case .engine(let request): try await answer(request, descriptors, channel)
            case .kill(let signal):
                try await container.kill(signal, all: false)
                try await channel.send(Reply.done)
            case .top: try await channel.send(try await processes())
            case .wait: waiting.append(channel)
            case .start, .restore, .keep, .claim, .save, .attach, .exec, .stop, .discard, .pause:
                throw SandboxError("this container belongs to a container engine: use that one's commands", exitCode: 1)
            }
        } catch {
            // Whoever is gone cannot be told.
            try? await channel.send(Reply(error))
        }
    }

    private func answer(_ request: EngineRequest, _ descriptors: HandedDescriptors, _ channel: Channel) async throws {
        switch request {
        case .save(let folder, let ends):
            return try await answering.save(at: channel, ends: ends) {
                try await container.save(in: sandbox, to: folder, ends: ends, report: $0)
            }
        case .create, .hooked, .restore: throw SandboxError("the container is there already", exitCode: 1)
        case .join(let id, let streams, let holder): return try await join(id, streams, holder, descriptors, channel)
        case .start: try await container.start()
        case .kill(let signal, let all): try await container.kill(signal, all: all)
        case .pause: try await container.pause()
        case .resume: try await container.resume()
        case .update(let resources): try await container.update(resources, host: sandbox.cgroup)
        case .exec(let process, let streams, let holder): return try await exec(process, streams, holder, descriptors, channel)
        case .processes: return try await channel.send(try await processes())
        case .holders:
            let all = [SandboxMonitor.pidOnHost()] + container.holders
            return try await channel.send(Reply.document("[\(all.map(String.init).joined(separator: ","))]"))
        case .statistics:
            let statistics = try await container.statistics()
            return try await channel.send(Reply.document(statistics.document))
        }
        try await channel.send(Reply.done)
    }

    private func processes() async throws -> Reply {
        let agent = container.agent
        let id = container.id
        let list = try await withDeadline(.seconds(10), awaiting: "the guest's list of processes") {
            try await agent.processes(in: id)
        }
        return .processes(
            titles: ["UID", "PID", "PPID", "CMD"],
            rows: list.processes.map { ["\($0.uid)", "\($0.pid)", "\($0.parent)", $0.arguments.joined(separator: " ")] })
    }

    /// A container that joins lives as long as its holder's connection.
    private func join(
        _ id: String, _ streams: Streams, _ holder: ProcessIdentity, _ descriptors: HandedDescriptors, _ channel: Channel
    ) async throws {
        let (member, server) = try await sandbox.join(id, streams, descriptors, holder: holder)
        try await channel.send(Reply.done)
        let process = member.process
        let following = Task { @Loop in
            await channel.follow(process)
            if !Task.isCancelled { try? await member.kill(SIGKILL, all: false) }  // one that has ended needs none
        }
        var reply = Reply.exited(code: 137, oomKilled: false)
        do {
            let exit = try await member.finish()
            reply = .exited(code: exit.code, oomKilled: exit.oomKilled)
        } catch {
            // The machine ended.
        }
        following.cancel()
        await server.stop()
        await sandbox.leave(id)
        try? await channel.send(reply)  // whoever is gone cannot be told
    }

    /// An exec lives as long as its holder's connection: the end of either is the other's.
    private func exec(
        _ settings: ProcessSpec, _ streams: Streams, _ holder: Int32, _ descriptors: HandedDescriptors, _ channel: Channel
    ) async throws {
        let process = try await container.exec(settings, streams)
        container.holders.append(holder)
        defer { container.holders.removeAll { $0 == holder } }
        // Nobody but this reader: whoever writes after it has gone gets SIGPIPE, as from a pipe.
        let output = ProcessStreams(process, log: nil, closesOutputs: !(settings.terminal ?? false))
        _ = output.attach(streams, descriptors.take()) {}
        try await channel.send(Reply.done)
        let following = Task { @Loop in
            await channel.follow(process)
            if !Task.isCancelled {
                try? await process.signal(SIGKILL)  // one that has ended needs none
                await output.dropStalled()
            }
        }
        await output.carry()
        do {
            let status = try await process.wait()
            following.cancel()
            try await channel.send(Reply.exited(code: status.shellCode, oomKilled: process.outOfMemory))
        } catch {
            following.cancel()
            try? await channel.send(Reply.exited(code: 137, oomKilled: false))  // whoever is gone cannot be told
        }
    }
}

extension ContainerStatistics {
    /// As runc's `events --stats` has it (the parts that a guest knows).
    var document: String {
        func limit(_ value: UInt64) -> UInt64 { value == .max ? UInt64(Int64.max) : value }
        return """
            {"cpu":{"usage":{"total":\(cpuUsage &* 1000),"kernel":\(cpuSystem &* 1000),"user":\(cpuUser &* 1000)},"throttling":{}},\
            "memory":{"usage":{"limit":\(limit(memoryLimit)),"usage":\(memory),"max":\(memoryPeak),"failcnt":0},\
            "raw":{"inactive_file":\(inactiveFile)}},\
            "pids":{"current":\(pids),"limit":\(pidsLimit == .max ? 0 : pidsLimit)},\
            "blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}
            """
    }
}
