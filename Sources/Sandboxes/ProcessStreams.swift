import AgentClient
import LinuxSystem

/// Where a process's streams go on the host: into its log, and to everybody who is attached. The log has every byte first. A slow reader
/// gets up to `AttachedOutput.limit` behind; from then on it slows the process, by the stream's credit, and nobody's requests.
@Loop
final class ProcessStreams {
    private let process: GuestProcess
    private let log: LogWriter?
    private let closesOutputs: Bool
    private var attachments: [StreamAttachment] = []

    /// With `closesOutputs` the process loses an output when its last reader goes, and gets SIGPIPE when it writes on, as it would
    /// without Hull. A container's own process does not: its log goes on.
    init(_ process: GuestProcess, log: LogWriter?, closesOutputs: Bool = false) {
        self.process = process
        self.log = log
        self.closesOutputs = closesOutputs
    }

    /// Adds somebody. The descriptors are in the order that `streams` says. `whenReaderHasGone` is called when what is written to
    /// them reaches nobody any more, and the process goes on all the same.
    func attach(
        _ streams: Streams, _ descriptors: [SharedDescriptor], whenReaderHasGone: @escaping @Loop () -> Void
    ) -> StreamAttachment {
        let process = process
        let attachment = StreamAttachment(streams, descriptors, watches: closesOutputs) { [weak self] stream in
            guard let self, closesOutputs else { return whenReaderHasGone() }
            lostReader(of: stream)
        }
        attachments.append(attachment)
        attachment.type(into: { try await process.write($0) }, finished: { if streams.ownsInput { await process.closeInput() } })
        return attachment
    }

    /// Takes somebody out, whose verb is gone. A process without a terminal loses its input with its owner.
    func detach(_ attachment: StreamAttachment, terminal: Bool) async {
        attachments.removeAll { $0 === attachment }
        attachment.end()
        if attachment.streams.input, attachment.streams.ownsInput, !terminal {
            await process.closeInput()
        }
    }

    /// Carries both outputs until they end. Everything was written when this returns.
    func carry() async {
        // Tasks of the loop: an `async let` would begin on Swift's global pool, whose threads stay.
        let out = Task { @Loop in await self.carry(.stdout) }
        let error = Task { @Loop in await self.carry(.stderr) }
        await out.value
        await error.value
        for attachment in attachments { attachment.end() }
        attachments = []
    }

    /// Gives readers up that take nothing. Call it when somebody asked for the end and the process has ended: from then on a reader
    /// that stands still holds nobody any more; one that reads on, however slowly, still gets everything.
    func dropStalled(after pause: Duration = .seconds(2)) async {
        while !attachments.isEmpty {
            let before = attachments.map(\.written)
            let those = attachments
            do { try await sleep(for: pause) } catch { return }  // cancelled: nobody waits for the end any more
            for (attachment, written) in zip(those, before) where attachment.written == written && attachment.isWriting {
                attachments.removeAll { $0 === attachment }
                attachment.end()
            }
        }
    }

    private func carry(_ stream: OutputStream) async {
        while let bytes = await process.readOutput(GuestProcess.Output(stream)) {
            log?.append(bytes, from: stream)
            for attachment in attachments { attachment.offer(bytes, to: stream) }
            for attachment in attachments { await attachment.room(in: stream) }
        }
        for attachment in attachments { await attachment.flushed(stream) }
    }

    private func lostReader(of stream: OutputStream) {
        guard !attachments.contains(where: { $0.reads(stream) }) else { return }
        let process = process
        // It has ended, or the guest is gone: then it writes no more.
        Task { @Loop in try? await process.closeOutput(GuestProcess.Output(stream)) }
    }
}

extension GuestProcess.Output {
    init(_ stream: OutputStream) { self = stream == .stdout ? .stdout : .stderr }
}

/// A container's log, which must never end the container: what cannot be written is told once.
@Loop
final class LogWriter {
    private var log: ContainerLog
    private var failed = false

    init(_ path: String) throws { log = try ContainerLog(path) }

    func append(_ bytes: [UInt8], from stream: OutputStream) {
        guard !failed else { return }
        do {
            try log.append(bytes, from: stream, at: Timestamp.now.nanoseconds)
        } catch {
            failed = true
            StandardStreams.complain("hull-monitor: the container's log ends here: \(error)")
        }
    }
}
