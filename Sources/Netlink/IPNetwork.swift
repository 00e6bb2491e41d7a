/// An address and the length of its network's prefix, e.g. `10.88.0.1/16`. The host's bits are kept.
public struct IPNetwork: Hashable, Sendable {
    public var address: IPAddress
    /// 0…32 or 0…128.
    public var prefixLength: Int

    /// Nil when the length does not fit the address's family.
    public init?(_ address: IPAddress, prefixLength: Int) {
        guard (0...address.width).contains(prefixLength) else { return nil }
        self.address = address
        self.prefixLength = prefixLength
    }

    /// Reads `address/length`; nil for anything else.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(parts[0]), let length = Int(parts[1]),
            parts[1].utf8.allSatisfy({ (48...57).contains($0) })
        else { return nil }
        self.init(address, prefixLength: length)
    }

    /// The network's own address: the host's bits are zero.
    public var base: IPAddress {
        switch address {
        case .v4(let value): .v4(value & UInt32(truncatingIfNeeded: Self.mask(prefixLength) >> 32))
        case .v6(let high, let low):
            .v6(high & Self.mask(prefixLength), low & Self.mask(prefixLength - 64))
        }
    }

    /// The same network with the host's bits zero.
    public var network: IPNetwork { IPNetwork(base, prefixLength: prefixLength)! }

    public func contains(_ other: IPAddress) -> Bool {
        other.isIPv6 == address.isIPv6 && IPNetwork(other, prefixLength: prefixLength)!.base == base
    }

    /// Whether some address is in both.
    public func overlaps(_ other: IPNetwork) -> Bool {
        prefixLength <= other.prefixLength ? contains(other.address) : other.contains(address)
    }

    private static func mask(_ length: Int) -> UInt64 {
        if length <= 0 { return 0 }
        return length >= 64 ? .max : ~(UInt64.max >> UInt64(length))
    }
}

extension IPNetwork: CustomStringConvertible {
    public var description: String { "\(address)/\(prefixLength)" }
}

extension IPNetwork: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let network = IPNetwork(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "\(text) is no IP network")
        }
        self = network
    }
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
