/// A message of netlink(7): the header's fields and what follows it. Pure: bytes in, bytes out.
public struct NetlinkMessage: Equatable, Sendable {
    public var type: UInt16
    public var flags: UInt16
    public var sequence: UInt32
    /// The port id of the sender; zero is the kernel.
    public var port: UInt32
    public var payload: [UInt8]

    static let headerLength = 16

    public init(
        type: UInt16, flags: UInt16 = 0, sequence: UInt32 = 0, port: UInt32 = 0, payload: [UInt8] = []
    ) {
        self.type = type
        self.flags = flags
        self.sequence = sequence
        self.port = port
        self.payload = payload
    }

    /// The bytes of the message, padded to four.
    public func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.headerLength + payload.count + 3)
        bytes.appendNative(UInt32(Self.headerLength + payload.count))
        bytes.appendNative(type)
        bytes.appendNative(flags)
        bytes.appendNative(sequence)
        bytes.appendNative(port)
        bytes += payload
        bytes.padToFour()
        return bytes
    }

    /// The messages of one datagram. Throws when a length points outside of it.
    public static func decode(_ datagram: [UInt8]) throws(MalformedMessage) -> [NetlinkMessage] {
        var messages: [NetlinkMessage] = []
        var rest = datagram[...]
        while !rest.isEmpty {
            guard let length: UInt32 = rest.native(at: 0), length >= headerLength, length <= rest.count
            else { throw MalformedMessage("a message's length") }
            messages.append(
                NetlinkMessage(
                    type: rest.native(at: 4)!, flags: rest.native(at: 6)!, sequence: rest.native(at: 8)!,
                    port: rest.native(at: 12)!,
                    payload: Array(rest.dropFirst(headerLength).prefix(Int(length) - headerLength))))
            rest = rest.dropFirst((Int(length) + 3) & ~3)
        }
        return messages
    }
}

/// Bytes that are no netlink message.
public struct MalformedMessage: Error, Equatable, CustomStringConvertible {
    /// What of it is wrong.
    public var part: String
    init(_ part: String) { self.part = part }
    public var description: String { "a netlink message from the kernel is malformed: \(part)" }
}

/// Type-length-value triples, as they follow a message's fixed part. Pure.
public struct NetlinkAttributes: Equatable, Sendable {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    public mutating func put(_ type: UInt16, _ value: some Collection<UInt8>) {
        precondition(value.count <= Int(UInt16.max) - 4, "an attribute's value is too long")
        bytes.appendNative(UInt16(4 + value.count))
        bytes.appendNative(type)
        bytes += value
        bytes.padToFour()
    }

    public mutating func put(_ type: UInt16, _ value: UInt32) {
        withUnsafeBytes(of: value) { put(type, $0) }
    }

    public mutating func put(_ type: UInt16, _ value: UInt8) { put(type, [value]) }

    /// A string with its final zero.
    public mutating func put(_ type: UInt16, _ value: String) { put(type, Array(value.utf8) + [0]) }

    /// Attributes inside an attribute.
    public mutating func nest(_ type: UInt16, _ build: (inout NetlinkAttributes) -> Void) {
        var inner = NetlinkAttributes()
        build(&inner)
        put(type, inner.bytes)
    }

    /// Reads what follows the first `offset` bytes of `payload`. Flags in the type (NLA_F_NESTED) are taken off; of two of
    /// one type the last counts. Throws when a length points outside.
    public static func decode(_ payload: some Collection<UInt8>, from offset: Int = 0)
        throws(MalformedMessage) -> [UInt16: [UInt8]]
    {
        var found: [UInt16: [UInt8]] = [:]
        guard payload.count >= offset else { throw MalformedMessage("its fixed part") }
        var rest = Array(payload.dropFirst(offset))[...]
        while rest.count >= 4 {
            let length: UInt16 = rest.native(at: 0)!
            let type: UInt16 = rest.native(at: 2)!
            guard length >= 4, length <= rest.count else {
                throw MalformedMessage("an attribute's length")
            }
            found[type & 0x3fff] = Array(rest.dropFirst(4).prefix(Int(length) - 4))
            rest = rest.dropFirst((Int(length) + 3) & ~3)
        }
        return found
    }
}

extension Array where Element == UInt8 {
    mutating func appendNative<I: FixedWidthInteger>(_ value: I) {
        Swift.withUnsafeBytes(of: value) { append(contentsOf: $0) }
    }

    mutating func padToFour() { while count % 4 != 0 { append(0) } }

    /// The bytes as a string, up to the first zero.
    var zeroTerminated: String { String(decoding: prefix { $0 != 0 }, as: UTF8.self) }

    func native<I: FixedWidthInteger>(at offset: Int) -> I? { self[...].native(at: offset) }
}

extension ArraySlice where Element == UInt8 {
    /// The integer, in the machine's order, `offset` bytes from the slice's start; nil when it is not all there.
    func native<I: FixedWidthInteger>(at offset: Int) -> I? {
        guard offset >= 0, offset + MemoryLayout<I>.size <= count else { return nil }
        return withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: I.self) }
    }
}
