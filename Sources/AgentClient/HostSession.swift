public import AgentProtocol

/// The host's half of the protocol without any I/O: bytes of the guest in, events out. Everything the guest sends is
/// checked; what breaks a rule throws, and the caller ends the sandbox's stream.
public struct HostSession: Sendable {
    /// What the guest said.
    public enum Event: Equatable, Sendable {
        /// The agent answered the begin of the epoch; requests may follow.
        case synchronised
        /// A request succeeded; the payload is its answer.
        case reply(request: UInt64, payload: [UInt8])
        /// A request failed.
        case failure(request: UInt64, AgentFailure)
        /// Bytes of a process.
        case output(process: UInt64, StreamKind, [UInt8])
        /// The end of a process's stream.
        case outputEnd(process: UInt64, StreamKind)
        /// A process takes more input.
        case credit(process: UInt64)
        /// A process reads its input no more.
        case inputClosed(process: UInt64)
        /// A process ended; its output came before.
        case exited(process: UInt64, ProcessExit)
        /// The kernel killed something for want of memory.
        case outOfMemory(OutOfMemory)
        /// A line for the log, at most 4096 bytes.
        case log(String)
    }

    /// One process's streams.
    struct Streams: Sendable {
        var output: ReceiveWindow
        var error: ReceiveWindow
        var input: SendWindow
        var exited = false
    }

    private var decoder = FrameDecoder(maximum: Limits.reply)
    private var epoch: UInt64 = 0
    private var isSynchronised = false
    private var pending: [UInt64: RequestKind] = [:]
    private var streams: [UInt64: Streams] = [:]
    private var nextRequest: UInt64 = 1
    /// Whether processes that the agent has, and that are not known here, become known with its greeting.
    private var adopts = false
    private var adopted: [ProcessState] = []

    /// A session before its first epoch.
    public init() {}

    /// How many requests wait for their answers.
    public var pendingRequests: Int { pending.count }

    /// Begins an epoch: everything that comes before the agent's echo of this random number is discarded.
    /// With `adopting` the processes that the agent has become known with its answer to `hello`: their streams go on right behind it.
    public mutating func begin(epoch: UInt64, adopting: Bool = false) -> [UInt8] {
        self.epoch = epoch
        adopts = adopting
        isSynchronised = false
        decoder = FrameDecoder(maximum: Limits.reply)
        decoder.hunt(epoch: epoch)
        pending = [:]
        return FrameHeader(.synchronise, offset: epoch).encoded
    }

    /// What became known with the agent's greeting; once.
    public mutating func takeAdopted() -> [ProcessState] {
        defer { adopted = [] }
        return adopted
    }

    /// A request's number and bytes.
    public mutating func request<M: WireMessage>(_ kind: RequestKind, _ message: M) -> (id: UInt64, bytes: [UInt8]) {
        let id = nextRequest
        nextRequest += 1
        pending[id] = kind
        let payload = message.encoded()
        return (id, FrameHeader(.request, type: kind.rawValue, length: payload.count, id: id).encoded + payload)
    }

    /// Begins to accept streams of a process.
    public mutating func add(_ process: UInt64, state: ProcessState? = nil, window: UInt64 = Limits.outputWindow) {
        var added = Streams(
            output: ReceiveWindow(offset: state?.output ?? 0, window: window),
            error: ReceiveWindow(offset: state?.error ?? 0, window: window),
            input: SendWindow(offset: min(state?.input ?? 0, 1 << 62), limit: state == nil ? Limits.window : 0))
        if let ended = state?.ended {
            // The offsets are the windows' own, so that these cannot fail.
            if ended & 1 != 0 { try? added.output.acceptEnd(at: added.output.offset) }
            if ended & 2 != 0 { try? added.error.acceptEnd(at: added.error.offset) }
            if ended & 4 != 0 { added.input.end() }
        }
        streams[process] = added
    }

    /// Forgets a process; what still comes for it is ignored.
    public mutating func remove(_ process: UInt64) { streams[process] = nil }

    /// Whether a stream's end arrived (true for an unknown process).
    public func hasEnded(_ process: UInt64, _ stream: StreamKind) -> Bool {
        guard let found = streams[process] else { return true }
        return stream == .output ? found.output.ended : found.error.ended
    }

    /// Frames as much of the input as credit allows; returns how many bytes that was.
    public mutating func input(_ process: UInt64, _ bytes: ArraySlice<UInt8>) -> (count: Int, bytes: [UInt8]) {
        guard var found = streams[process], !found.input.ended else { return (0, []) }
        let count = min(bytes.count, found.input.allowance, Limits.data)
        guard count > 0 else { return (0, []) }
        let header = FrameHeader(
            .data, type: StreamKind.input.rawValue, length: count, id: process, offset: found.input.offset)
        found.input.sent(count)
        streams[process] = found
        return (count, header.encoded + bytes.prefix(count))
    }

    /// Frames the end of the input, once.
    public mutating func inputEnd(_ process: UInt64) -> [UInt8] {
        guard var found = streams[process], !found.input.ended else { return [] }
        found.input.end()
        streams[process] = found
        return FrameHeader(.end, type: StreamKind.input.rawValue, id: process, offset: found.input.offset).encoded
    }

    /// Counts output as taken by its consumer; the credit to send, empty while it is not worth a frame.
    public mutating func take(_ process: UInt64, _ stream: StreamKind, _ count: Int) -> [UInt8] {
        guard var found = streams[process] else { return [] }
        let limit = stream == .output ? found.output.take(count) : found.error.take(count)
        streams[process] = found
        guard let limit else { return [] }
        return FrameHeader(.credit, type: stream.rawValue, id: process, offset: limit).encoded
    }

    /// All credit once more, for a new epoch.
    public func repeatedCredit() -> [UInt8] {
        var bytes: [UInt8] = []
        for (process, found) in streams {
            bytes += FrameHeader(.credit, type: StreamKind.output.rawValue, id: process, offset: found.output.limit).encoded
            bytes += FrameHeader(.credit, type: StreamKind.error.rawValue, id: process, offset: found.error.limit).encoded
        }
        return bytes
    }

    /// Whether the streams stand where the agent says: nothing was lost between the two.
    public func agrees(with state: ProcessState) -> Bool {
        guard let found = streams[state.process] else { return true }
        return found.output.offset == state.output && found.error.offset == state.error && found.input.offset == state.input
    }

    /// Lets `body` write arriving bytes; it returns how many, which is passed on.
    public mutating func fill(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int) -> Int { decoder.fill(count, body) }

    /// Adds arriving bytes.
    public mutating func append(_ bytes: [UInt8]) { decoder.append(bytes) }

    /// The next event, nil while more bytes are needed. After a throw the session must not be used any more.
    public mutating func next() throws(WireError) -> Event? {
        while let frame = try decoder.next() {
            if let event = try interpret(frame) { return event }
        }
        return nil
    }

    private mutating func interpret(_ frame: Frame) throws(WireError) -> Event? {
        let header = frame.header
        if header.kind == .synchronise {
            guard !isSynchronised, header.offset == epoch else { throw .unexpected }
            isSynchronised = true
            return .synchronised
        }
        guard isSynchronised else { throw .unexpected }
        switch header.kind {
        case .reply:
            let kind = try answered(header)
            // At this place in the stream both ends must be at the same byte of everything.
            if kind == .hello || kind == .quiesce {
                let state = try AgentState(decoding: frame.payload, elements: Limits.elements)
                guard state.processes.allSatisfy({ agrees(with: $0) }) else { throw .wrongOffset }
                if kind == .hello, adopts {
                    adopted = state.processes.filter { streams[$0.process] == nil }
                    for process in adopted { add(process.process, state: process) }
                }
            }
            return .reply(request: header.id, payload: frame.payload)
        case .failure:
            _ = try answered(header)
            return .failure(request: header.id, try AgentFailure(decoding: frame.payload, elements: 16))
        case .event: return try event(header, frame.payload)
        case .data, .end: return try data(header, frame.payload)
        case .credit:
            guard header.type == StreamKind.input.rawValue else { throw .unexpected }
            guard var found = streams[header.id] else { return nil }
            // A limit that no agent gives would only let the host send more than the agent stores.
            guard header.offset <= found.input.offset + Limits.window else { throw .creditExceeded }
            found.input.allow(upTo: header.offset)
            streams[header.id] = found
            return .credit(process: header.id)
        case .request, .synchronise: throw .unexpected
        }
    }

    private mutating func answered(_ header: FrameHeader) throws(WireError) -> RequestKind {
        guard let kind = pending.removeValue(forKey: header.id), kind.rawValue == header.type else { throw .unexpected }
        return kind
    }

    private mutating func event(_ header: FrameHeader, _ payload: [UInt8]) throws(WireError) -> Event? {
        // A newer agent may say what this host does not know.
        guard let kind = EventKind(rawValue: header.type) else { return nil }
        switch kind {
        case .exited:
            guard var found = streams[header.id] else { return nil }
            guard !found.exited else { throw .unexpected }
            found.exited = true
            streams[header.id] = found
            return .exited(process: header.id, try ProcessExit(decoding: payload, elements: 16))
        case .inputClosed: return streams[header.id] == nil ? nil : .inputClosed(process: header.id)
        case .outOfMemory: return .outOfMemory(try OutOfMemory(decoding: payload, elements: 16))
        case .log:
            let line = try LogLine(decoding: payload, elements: 16)
            return .log(String(decoding: line.text.utf8.prefix(4096), as: UTF8.self))
        }
    }

    private mutating func data(_ header: FrameHeader, _ payload: [UInt8]) throws(WireError) -> Event? {
        guard let stream = StreamKind(rawValue: header.type), stream != .input else { throw .unexpected }
        guard payload.count <= Limits.data else { throw .tooLarge }
        guard var found = streams[header.id] else { return nil }
        let ends = header.kind == .end
        if ends, !payload.isEmpty { throw .malformed }
        if stream == .output {
            if ends {
                try found.output.acceptEnd(at: header.offset)
            } else {
                try found.output.accept(at: header.offset, count: payload.count)
            }
        } else {
            if ends {
                try found.error.acceptEnd(at: header.offset)
            } else {
                try found.error.accept(at: header.offset, count: payload.count)
            }
        }
        streams[header.id] = found
        if ends { return .outputEnd(process: header.id, stream) }
        return payload.isEmpty ? nil : .output(process: header.id, stream, payload)
    }
}
