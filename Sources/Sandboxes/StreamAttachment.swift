import LinuxSystem

/// Somebody's ends of a process's streams.
@Loop
final class StreamAttachment {
    let streams: Streams
    private(set) var input: SharedDescriptor?
    private var outputs: [OutputStream: AttachedOutput] = [:]
    private var typing: Task<Void, Never>?

    /// The descriptors are in the order that `streams` says. `whenReaderHasGone` is called when an output's reader has (with `watches`,
    /// at once).
    init(
        _ streams: Streams, _ descriptors: [SharedDescriptor], watches: Bool,
        whenReaderHasGone: @escaping @Loop (OutputStream) -> Void
    ) {
        var rest = descriptors[...]
        self.streams = streams
        input = streams.input ? rest.popFirst() : nil
        for (stream, isThere) in [(OutputStream.stdout, streams.output), (.stderr, streams.error)] where isThere {
            guard let descriptor = rest.popFirst() else { continue }
            outputs[stream] = AttachedOutput(descriptor, watches: watches) { whenReaderHasGone(stream) }
        }
    }

    /// Reads the input and gives it to `take`, until that says that no more is wanted, or there is no more; then `finished` is called.
    func type(
        into take: @escaping @Loop ([UInt8]) async throws -> Bool, finished: @escaping @Loop () async -> Void
    ) {
        guard let input else { return }
        typing = Task { @Loop [weak self] in
            do {
                while true {
                    let bytes = try await readSome(input.raw)
                    guard !bytes.isEmpty, try await take(bytes) else { break }
                }
            } catch is CancellationError {
                return
            } catch {
                // The guest is gone, or the source broke: both are the end of this input.
            }
            self?.input = nil
            await finished()
        }
    }

    /// Bytes that its readers have taken.
    var written: Int { outputs.values.reduce(0) { $0 + $1.written } }
    /// Whether anything waits for a reader.
    var isWriting: Bool { outputs.values.contains(where: \.isWriting) }

    func reads(_ stream: OutputStream) -> Bool { outputs[stream]?.isOpen ?? false }
    func offer(_ bytes: [UInt8], to stream: OutputStream) { outputs[stream]?.offer(bytes) }
    func room(in stream: OutputStream) async { await outputs[stream]?.room() }
    func flushed(_ stream: OutputStream) async { await outputs[stream]?.flushed() }

    /// Closes its ends.
    func end() {
        typing?.cancel()
        input = nil
        for output in outputs.values { output.end() }
    }
}
