import AgentClient
import Glibc
import LinuxSystem

/// Where a process's streams go on the host: into its log, and to everybody who is attached. A slow reader slows the process,
/// by the stream's credit, and nobody else.
@Loop
final class ProcessStreams {
    private let process: GuestProcess
    private var log: LogWriter?
    private var attachments: [StreamAttachment] = []

    init(_ process: GuestProcess, log: LogWriter?) {
        self.process = process
        self.log = log
    }

    /// Adds somebody. The descriptors are in the order that `streams` says.
    func attach(_ streams: Streams, _ descriptors: [SharedDescriptor]) -> StreamAttachment {
        let attachment = StreamAttachment(streams, descriptors)
        attachments.append(attachment)
        if let input = attachment.input {
            let process = process
            attachment.typing = Task { @Loop in
                do {
                    while true {
                        let bytes = try await readSome(input.raw)
                        if bytes.isEmpty { break }
                        try await process.write(bytes)
                    }
                } catch is CancellationError {
                    return
                } catch {
                    // The process closed its end, or the source broke: both are the end of this input.
                }
                if streams.ownsInput { await process.closeInput() }
            }
        }
        return attachment
    }

    /// Takes somebody out, whose verb is gone. A process without a terminal loses its input with its owner.
    func detach(_ attachment: StreamAttachment, terminal: Bool) async {
        attachments.removeAll { $0 === attachment }
        attachment.end()
        if attachment.input != nil, attachment.streams.ownsInput, !terminal {
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
        while let bytes = await process.readOutput(stream == .stdout ? .stdout : .stderr) {
            log?.append(bytes, from: stream)
            for attachment in attachments { await attachment.write(bytes, to: stream) }
        }
    }
}

/// Somebody's ends of a process's streams.
@Loop
final class StreamAttachment {
    let streams: Streams
    let input: SharedDescriptor?
    private var outputs: [OutputStream: SharedDescriptor] = [:]
    private var writing: [OutputStream: Task<Void, any Error>] = [:]
    /// Bytes that its reader has taken, in the pieces in which they came.
    private(set) var written = 0
    var isWriting: Bool { !writing.isEmpty }
    var typing: Task<Void, Never>?

    init(_ streams: Streams, _ descriptors: [SharedDescriptor]) {
        var rest = descriptors[...]
        self.streams = streams
        input = streams.input ? rest.popFirst() : nil
        if streams.output { outputs[.stdout] = rest.popFirst() }
        if streams.error { outputs[.stderr] = rest.popFirst() }
    }

    /// Writes all of it, waiting for the reader; a reader that went away loses the stream and nothing else.
    func write(_ bytes: [UInt8], to stream: OutputStream) async {
        guard let output = outputs[stream] else { return }
        let task = Task { @Loop in try await writeAll(output.raw, bytes) }
        writing[stream] = task
        if case .failure = await task.result { outputs[stream] = nil } else { written += bytes.count }
        writing[stream] = nil
    }

    /// Closes its ends.
    func end() {
        typing?.cancel()
        for task in writing.values { task.cancel() }
        outputs = [:]
    }
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
