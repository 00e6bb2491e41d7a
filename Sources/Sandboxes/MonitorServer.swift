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
    private let memory = IdleMemory(after: .seconds(2))
    private let answering = AnswersUnderWay()

    /// Listens at `path`.
    init(_ container: RunningContainer, at path: String) throws {
        self.container = container
        listener = try UnixSocket.listen(path)
        accepting = acceptVerbs(at: listener) { [weak self] socket in
            guard let self else { return false }
            // Not kept: a container that lives for years serves millions.
            Task { @Loop in await self.serve(Channel(socket)) }
            return true
        }
    }

    /// Takes nobody new, and waits until all are answered: the monitor's end would cut off the answer to the very request that ended the
    /// container.
    func stop() async {
        accepting?.cancel()
        await answering.settled()
    }

    /// The first connection, whose request started the container: its streams, and what it says later.
    func adopt(_ channel: Channel, _ streams: Streams, _ descriptors: HandedDescriptors) async {
        let attachment = container.streams.attach(streams, descriptors.take()) { Self.tellOutputClosed(channel) }
        await container.announcer.started()
        memory.touch()
        Task { @Loop in await self.listen(channel, to: attachment) }
    }

    private func serve(_ channel: Channel) async {
        memory.touch()
        defer { memory.touch() }
        do {
            guard let (request, descriptors) = try await channel.nextRequest() else { return }
            try await answer(request.verb, descriptors, channel)
        } catch {
            // Whoever is gone cannot be told.
            try? await channel.send(Reply(error))
        }
    }

    private func answer(_ verb: Request.Verb, _ descriptors: HandedDescriptors, _ channel: Channel)
        async throws
    {
        switch verb {
        case .engine:
            throw SandboxError("container \(container.record.name) belongs to no container engine: use hull", exitCode: 1)
        case .claim: throw MemberTaken()
        case .start, .restore, .keep:
            throw SandboxError("container \(container.record.name) is running already", exitCode: 1)
        case .attach(let streams):
            let attachment = container.streams.attach(streams, descriptors.take()) { Self.tellOutputClosed(channel) }
            container.announcer.attach(channel)
            try await channel.send(Reply.done)
            if let rows = streams.rows, let columns = streams.columns {
                await Later.resize(rows: rows, columns: columns).act(on: container.process)
            }
            await listen(channel, to: attachment)
        case .exec(let settings, let streams, let detached):
            try await exec(settings, streams, descriptors, detached: detached, channel)
        case .kill(let signal):
            answering.begin()
            defer { answering.given() }
            try await container.kill(signal)
            try await channel.send(Reply.done)
        case .stop(let signal, let seconds):
            // The end is what is waited for, so the end is the answer.
            container.announcer.add(channel)
            await container.stop(signal: signal, seconds: seconds)
        case .discard:
            container.announcer.add(channel)
            await container.discard()
        case .wait:
            container.announcer.add(channel)
        case .pause(let paused):
            try await paused ? container.pause() : container.unpause()
            try await channel.send(Reply.done)
        case .save(let folder, let ends, let parent):
            try await answering.save(at: channel, ends: ends) {
                try await container.save(to: folder, ends: ends, parent: parent, report: $0)
            }
        case .top:
            try container.mustRun("its processes can be listed")
            let agent = container.agent
            let id = container.planner.guestName
            let list = try await withDeadline(.seconds(10), awaiting: "the guest's list of processes") {
                try await agent.processes(in: id)
            }
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
        _ descriptors: HandedDescriptors, detached: Bool, _ channel: Channel
    ) async throws {
        let process = try await container.exec(settings, streams)
        let output = ProcessStreams(process, log: nil, closesOutputs: !settings.terminal)
        let attachment = output.attach(streams, descriptors.take()) { Self.tellOutputClosed(channel) }
        try await channel.send(Reply.done)
        let later = Task { @Loop in
            await channel.follow(process)
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
        await channel.follow(container.process)
        container.announcer.remove(channel)
        await container.streams.detach(attachment, terminal: container.record.process.terminal)
    }

    private static func tellOutputClosed(_ channel: Channel) {
        // Whoever is gone cannot be told.
        Task { @Loop in try? await channel.send(Reply.outputClosed) }
    }
}

/// Hands every connection to `listener` to `take`, until that says no or the task is cancelled. The caller keeps it open beyond that:
/// who comes late waits for the monitor's end, and is not told that there is none.
@Loop
func acceptVerbs(at listener: SharedDescriptor, _ take: @escaping @Loop (SharedDescriptor) -> Bool) -> Task<Void, Never> {
    Task { @Loop in
        while !Task.isCancelled {
            do {
                guard take(try await UnixSocket.accept(listener)) else { return }
            } catch is CancellationError {
                return
            } catch {
                // No descriptor is free, or no memory: the next verb may have better luck, and must find us listening.
                do { try await sleep(for: .milliseconds(100)) } catch { return }
            }
        }
    }
}
