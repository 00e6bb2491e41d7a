import AgentClient
import AgentProtocol
import Glibc
import LinuxSystem

/// Answers the verbs that come to a monitor's socket.
@Loop
final class MonitorServer {
    private let container: RunningContainer
    private let listener: SharedDescriptor
    private var accepting: Task<Void, Never>?
    private var connections: [Task<Void, Never>] = []
    private let memory = IdleMemory(after: .seconds(2))

    /// Listens at `path`.
    init(_ container: RunningContainer, at path: String) throws {
        self.container = container
        listener = try UnixSocket.listen(path)
        accepting = Task { @Loop [weak self, listener] in
            while let socket = try? await UnixSocket.accept(listener) {  // ends with the listener's task
                guard let self else { return }
                self.connections.append(Task { @Loop in await self.serve(Channel(socket)) })
            }
        }
    }

    /// Takes nobody new.
    func stop() { accepting?.cancel() }

    /// The first connection, whose request started the container: its streams, and what it says later.
    func adopt(_ channel: Channel, _ streams: Streams, _ descriptors: [SharedDescriptor]) async {
        let attachment = container.streams.attach(streams, descriptors)
        await container.announcer.started()
        memory.touch()
        connections.append(Task { @Loop in await self.listen(channel, to: attachment) })
    }

    private func serve(_ channel: Channel) async {
        memory.touch()
        defer { memory.touch() }
        do {
            guard let (request, descriptors) = try await channel.receive(Request.self) else { return }
            try await answer(request.verb, descriptors, channel)
        } catch {
            // Whoever is gone cannot be told.
            try? await channel.send(Reply(error))
        }
    }

    private func answer(_ verb: Request.Verb, _ descriptors: [SharedDescriptor], _ channel: Channel)
        async throws
    {
        switch verb {
        case .start:
            throw SandboxError("container \(container.record.name) is running already", exitCode: 1)
        case .attach(let streams):
            let attachment = container.streams.attach(streams, descriptors)
            container.announcer.add(channel)
            try await channel.send(Reply.done)
            if let rows = streams.rows, let columns = streams.columns {
                try await container.process.resize(rows: rows, columns: columns)
            }
            await listen(channel, to: attachment)
        case .exec(let settings, let streams, let detached):
            try await exec(settings, streams, descriptors, detached: detached, channel)
        case .kill(let signal):
            try await container.process.signal(signal)
            try await channel.send(Reply.done)
        case .stop(let signal, let seconds):
            // The end is what is waited for, so the end is the answer.
            container.announcer.add(channel)
            try await container.stop(signal: signal, seconds: seconds)
        case .wait:
            container.announcer.add(channel)
        case .top:
            let list = try await container.agent.processes(in: container.record.id)
            try await channel.send(
                Reply.processes(
                    titles: ["PID", "PPID", "UID", "CMD"],
                    rows: list.processes.map {
                        ["\($0.pid)", "\($0.parent)", "\($0.uid)", $0.arguments.joined(separator: " ")]
                    }))
        }
    }

    private func exec(
        _ settings: ContainerRecord.ProcessSettings, _ streams: Streams,
        _ descriptors: [SharedDescriptor], detached: Bool, _ channel: Channel
    ) async throws {
        let process = try await container.exec(settings, streams)
        let output = ProcessStreams(process, log: nil)
        let attachment = output.attach(streams, descriptors)
        try await channel.send(Reply.done)
        let later = Task { @Loop in
            await Self.follow(channel, process)
            await output.detach(attachment, terminal: settings.terminal)
        }
        await output.carry()
        do {
            let status = try await process.wait()
            if !detached {
                try await channel.send(Reply.exited(code: status.shellCode, oomKilled: process.outOfMemory))
            }
        } catch {
            // Its machine is gone: its end is the container's, which the announcer does not know of here.
            try? await channel.send(Reply.exited(code: 137, oomKilled: false))
        }
        later.cancel()
    }

    /// What an attached verb says later; at its end, its streams are taken out.
    private func listen(_ channel: Channel, to attachment: StreamAttachment) async {
        await Self.follow(channel, container.process)
        container.announcer.remove(channel)
        await container.streams.detach(attachment, terminal: container.record.process.terminal)
    }

    private static func follow(_ channel: Channel, _ process: GuestProcess) async {
        while let (later, _) = try? await channel.receive(Later.self) {  // ends with the connection
            switch later {
            case .resize(let rows, let columns):
                // A process that has just ended has no window and takes no signal.
                try? await process.resize(rows: rows, columns: columns)
            case .signal(let signal):
                try? await process.signal(signal)  // it has just ended
            }
        }
    }
}
