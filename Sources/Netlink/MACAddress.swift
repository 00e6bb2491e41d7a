/// The six bytes of an Ethernet address; `02:68:0a:d5:00:02` in text and in JSON.
public struct MACAddress: Hashable, Sendable {
    public let bytes: [UInt8]

    /// Nil unless there are six bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 6 else { return nil }
        self.bytes = Array(bytes)
    }

    /// Reads six pairs of hexadecimal digits with colons between; nil for anything else.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        let bytes = parts.compactMap { part in
            part.utf8.count == 2 && part.allSatisfy(\.isHexDigit) ? UInt8(part, radix: 16) : nil
        }
        guard parts.count == 6, bytes.count == 6 else { return nil }
        self.bytes = bytes
    }

    /// The address that belongs to an IPv4 address: locally administered, unicast, and the same again when the address
    /// is given out again, so that no neighbour's cache is ever wrong.
    public init(for address: IPAddress) {
        bytes = [0x02, 0x68] + address.bytes.suffix(4)
    }

    /// A random one, locally administered and unicast (IEEE 802c).
    public static func random() -> MACAddress {
        var bytes = (0..<6).map { _ in UInt8.random(in: 0...255) }
        bytes[0] = bytes[0] & 0xfc | 0x02
        return MACAddress(bytes: bytes)!
    }

    /// Whether it may be an interface's own address: not a group's, not zero.
    public var isUnicast: Bool { bytes[0] & 1 == 0 && bytes.contains { $0 != 0 } }

    /// The link-local IPv6 address that the kernel makes from it (RFC 4291, appendix A: modified EUI-64).
    public var linkLocalAddress: IPAddress {
        let identifier = [bytes[0] ^ 2, bytes[1], bytes[2], 0xff, 0xfe, bytes[3], bytes[4], bytes[5]]
        return .v6(0xfe80 << 48, identifier.reduce(0) { $0 << 8 | UInt64($1) })
    }
}

extension MACAddress: CustomStringConvertible {
    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}

extension MACAddress: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let address = MACAddress(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "\(text) is no Ethernet address")
        }
        self = address
    }
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
