/// The agent's half of the protocol without any I/O: bytes of the host in, events out.
public struct GuestSession: Sendable {
    /// What the host said.
    public enum Event: Equatable, Sendable {
        /// A new epoch begins; it is to be echoed before anything else is sent.
        case begin(epoch: UInt64)
        /// A request to answer.
        case request(FrameHeader, RequestKind, [UInt8])
        /// A request that this agent does not know.
        case unknownRequest(FrameHeader)
        /// Input for a process.
        case input(process: UInt64, offset: UInt64, [UInt8])
        /// The end of a process's input.
        case inputEnd(process: UInt64, offset: UInt64)
        /// Credit for a process's output or error.
        case credit(process: UInt64, StreamKind, limit: UInt64)
    }

    private var decoder = FrameDecoder(maximum: Limits.request)
    /// Whether an epoch runs; the agent says nothing before it does.
    public private(set) var inEpoch = false
    /// Whether the host said hello in this epoch; only then do events and streams flow.
    public private(set) var isGreeted = false

    /// A session that waits for its first epoch.
    public init() {}

    /// The host's hello was accepted.
    public mutating func greet() { isGreeted = inEpoch }

    /// Falls silent until the next epoch: the host is gone, quiesced or makes no sense.
    public mutating func silence() {
        inEpoch = false
        isGreeted = false
        decoder.hunt(epoch: nil)
    }

    /// Forgets half a frame as well: a new connection begins with a whole one.
    public mutating func reset() {
        silence()
        decoder = FrameDecoder(maximum: Limits.request)
    }

    /// Lets `body` write arriving bytes; it returns how many, which is passed on.
    public mutating func fill(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int) -> Int { decoder.fill(count, body) }

    /// Adds arriving bytes.
    public mutating func append(_ bytes: [UInt8]) { decoder.append(bytes) }

    /// The next event, nil while more bytes are needed. After a throw the caller falls silent.
    public mutating func next() throws(WireError) -> Event? {
        guard let frame = try decoder.next() else { return nil }
        let header = frame.header
        if header.kind == .synchronise {
            inEpoch = true
            isGreeted = false
            return .begin(epoch: header.offset)
        }
        guard inEpoch else { throw .unexpected }
        switch header.kind {
        case .request:
            guard let kind = RequestKind(rawValue: header.type) else { return .unknownRequest(header) }
            guard isGreeted || kind == .hello else { throw .unexpected }
            return .request(header, kind, frame.payload)
        case .data, .end:
            guard isGreeted, header.type == StreamKind.input.rawValue else { throw .unexpected }
            guard frame.payload.count <= Limits.data else { throw .tooLarge }
            if header.kind == .end { return .inputEnd(process: header.id, offset: header.offset) }
            return .input(process: header.id, offset: header.offset, frame.payload)
        case .credit:
            guard isGreeted, let stream = StreamKind(rawValue: header.type), stream != .input else { throw .unexpected }
            return .credit(process: header.id, stream, limit: header.offset)
        case .reply, .failure, .event, .synchronise: throw .unexpected
        }
    }
}
