/// What a frame carries.
public enum FrameKind: UInt8, Sendable {
    /// A request of the host; `id` is answered by a reply or a failure with the same one.
    case request = 1
    /// The answer to a request; `type` is the request's.
    case reply = 2
    /// The answer to a request that failed; the payload is an `AgentFailure`.
    case failure = 3
    /// Something that happened in the guest, unasked; `id` is the process where there is one.
    case event = 4
    /// Bytes of a process stream; `type` is the `StreamKind`, `id` the process, `offset` that of the first byte.
    case data = 5
    /// The end of a process stream; `offset` is its length.
    case end = 6
    /// Credit for a process stream: its bytes may now reach up to `offset`.
    case credit = 7
    /// The begin of an epoch; `offset` is the host's random number for it. Everything before it is void.
    case synchronise = 8
}

/// A stream of a process, as the frame's `type`.
public enum StreamKind: UInt16, Sendable {
    /// Bytes for the process (host to guest).
    case input = 0
    /// The process's standard output, or its terminal (guest to host).
    case output = 1
    /// The process's standard error (guest to host).
    case error = 2
}

/// The 24 bytes before every payload, little-endian: mark, kind, type (2), length (4), id (8), offset (8).
public struct FrameHeader: Equatable, Sendable {
    /// How many bytes a header takes.
    public static let size = 24
    /// The first byte of every frame.
    public static let mark: UInt8 = 0x48
    /// The first sixteen bytes of a `synchronise` frame; what a receiver hunts for.
    public static let synchronisation: [UInt8] = [
        0x48, 8, 0xF1, 0x9E, 0x00, 0xFF, 0x55, 0xAA, 0x68, 0x75, 0x6C, 0x6C, 0x0D, 0x0A, 0x1A, 0xC3,
    ]

    /// What the frame carries.
    public var kind: FrameKind
    /// A request's or event's type, or a stream.
    public var type: UInt16
    /// How many payload bytes follow.
    public var length: UInt32
    /// The request, or the process.
    public var id: UInt64
    /// A stream offset, or an epoch's number.
    public var offset: UInt64

    /// A header.
    public init(_ kind: FrameKind, type: UInt16 = 0, length: Int = 0, id: UInt64 = 0, offset: UInt64 = 0) {
        self.kind = kind
        self.type = type
        self.length = UInt32(length)
        self.id = id
        self.offset = offset
    }

    /// The header's bytes.
    public var encoded: [UInt8] {
        var bytes = [UInt8]()
        bytes.reserveCapacity(Self.size)
        if kind == .synchronise {
            bytes.append(contentsOf: Self.synchronisation)
        } else {
            bytes.append(Self.mark)
            bytes.append(kind.rawValue)
            Self.put(UInt64(type), 2, &bytes)
            Self.put(UInt64(length), 4, &bytes)
            Self.put(id, 8, &bytes)
        }
        Self.put(offset, 8, &bytes)
        return bytes
    }

    /// Reads a header from the 24 bytes at `start`; nil when they are none.
    init?(_ bytes: [UInt8], at start: Int) {
        guard bytes[start] == Self.mark, let kind = FrameKind(rawValue: bytes[start + 1]) else { return nil }
        offset = Self.get(bytes, start + 16, 8)
        self.kind = kind
        if kind == .synchronise {
            for index in 0..<16 where bytes[start + index] != Self.synchronisation[index] { return nil }
            type = 0
            length = 0
            id = 0
        } else {
            type = UInt16(Self.get(bytes, start + 2, 2))
            length = UInt32(Self.get(bytes, start + 4, 4))
            id = Self.get(bytes, start + 8, 8)
        }
    }

    private static func put(_ value: UInt64, _ count: Int, _ bytes: inout [UInt8]) {
        for index in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(index * 8))) }
    }

    private static func get(_ bytes: [UInt8], _ start: Int, _ count: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<count { value |= UInt64(bytes[start + index]) << UInt64(index * 8) }
        return value
    }
}

/// A whole frame.
public struct Frame: Equatable, Sendable {
    /// What it says about itself.
    public var header: FrameHeader
    /// What it carries.
    public var payload: [UInt8]

    /// A frame; the header's length becomes the payload's.
    public init(_ header: FrameHeader, _ payload: [UInt8] = []) {
        self.header = header
        self.header.length = UInt32(payload.count)
        self.payload = payload
    }

    /// The frame's bytes.
    public var encoded: [UInt8] { header.encoded + payload }
}

/// Lengths that both ends keep to.
public enum Limits {
    /// The most bytes of a process stream in one frame. With its header it is one write to a virtio port, of which Linux takes 32 KiB
    /// at once ("char device port_fops_write": each write is a buffer, a kick and an interrupt).
    public static let data = 32768 - FrameHeader.size
    /// The most bytes of a request: arguments and environment, a seccomp program, files.
    public static let request = 4 << 20
    /// The most bytes of a reply or an event.
    public static let reply = 1 << 20
    /// How far an input's sender may be ahead of what its process has taken: memory in the guest.
    public static let window: UInt64 = 256 << 10
    /// How far an output may be ahead of what its reader has taken: memory on the host. Each quarter of it costs the guest an interrupt.
    public static let outputWindow: UInt64 = 1 << 20
    /// How many processes an agent keeps at once.
    public static let processes = 1024
    /// How many list elements a message may hold.
    public static let elements = 65536
}
