/// The sending end of one process stream: how far it is, and how far it may go. Offsets only grow.
public struct SendWindow: Equatable, Sendable {
    /// How many bytes were sent since the process began.
    public private(set) var offset: UInt64
    /// Up to where the receiver allowed.
    public private(set) var limit: UInt64
    /// Whether the end was sent.
    public private(set) var ended = false

    /// A window that begins at `offset` with no credit beyond `limit`.
    public init(offset: UInt64 = 0, limit: UInt64 = 0) {
        self.offset = offset
        self.limit = max(limit, offset)
    }

    /// How many bytes may be sent now.
    public var allowance: Int { Int(min(limit - offset, UInt64(Limits.window) * 64)) }

    /// Takes credit; an older limit changes nothing, so that credit may be repeated after an epoch begins.
    public mutating func allow(upTo limit: UInt64) {
        self.limit = max(self.limit, limit)
    }

    /// Counts bytes as sent; the caller keeps to `allowance`.
    public mutating func sent(_ count: Int) {
        precondition(count <= allowance, "sent more than was allowed")
        offset += UInt64(count)
    }

    /// Marks the end as sent.
    public mutating func end() { ended = true }
}

/// The receiving end of one process stream.
public struct ReceiveWindow: Equatable, Sendable {
    /// How many bytes arrived since the process began.
    public private(set) var offset: UInt64
    /// How many of them the consumer took.
    public private(set) var taken: UInt64
    /// Up to where the sender was told that it may go.
    public private(set) var limit: UInt64
    /// Whether the end arrived.
    public private(set) var ended = false
    private let window: UInt64

    /// A window that begins at `offset` and allows `window` bytes beyond what the consumer took.
    /// An `offset` above 2^62 (nobody wrote that much) is taken as 2^62.
    public init(offset: UInt64 = 0, window: UInt64 = Limits.window) {
        let offset = min(offset, 1 << 62)
        self.offset = offset
        taken = offset
        self.window = window
        limit = offset + window
    }

    /// Accepts arriving bytes, or says what is wrong with them.
    public mutating func accept(at offset: UInt64, count: Int) throws(WireError) {
        guard !ended else { throw .afterEnd }
        guard offset == self.offset else { throw .wrongOffset }
        guard UInt64(count) <= limit - offset else { throw .creditExceeded }
        self.offset += UInt64(count)
    }

    /// Accepts the stream's end.
    public mutating func acceptEnd(at offset: UInt64) throws(WireError) {
        guard !ended else { throw .afterEnd }
        guard offset == self.offset else { throw .wrongOffset }
        ended = true
    }

    /// Counts bytes as taken by the consumer; returns the new limit when it is worth telling the sender.
    public mutating func take(_ count: Int) -> UInt64? {
        taken += UInt64(count)
        precondition(taken <= offset, "took more than arrived")
        let target = taken + window
        guard !ended, target - limit >= window / 4 else { return nil }
        limit = target
        return target
    }
}
