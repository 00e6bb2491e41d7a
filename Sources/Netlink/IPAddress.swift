/// An IPv4 or IPv6 address. In text and in JSON as people write it (RFC 5952 for IPv6).
public enum IPAddress: Hashable, Sendable {
    case v4(UInt32)
    case v6(UInt64, UInt64)

    /// Reads `10.1.2.3` or `fd00::1`; nil for anything else, a zone (`%eth0`) included.
    public init?(_ text: some StringProtocol) {
        if text.contains(":") {
            guard let (high, low) = Self.parse6(Substring(text)) else { return nil }
            self = .v6(high, low)
        } else {
            guard let value = Self.parse4(Substring(text)) else { return nil }
            self = .v4(value)
        }
    }

    /// The address in `bytes`, 4 or 16 of them, in network order.
    public init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4: self = .v4(bytes.reduce(0) { $0 << 8 | UInt32($1) })
        case 16:
            self = .v6(
                bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) },
                bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) })
        default: return nil
        }
    }

    /// 4 or 16 bytes in network order.
    public var bytes: [UInt8] {
        switch self {
        case .v4(let value): (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
        case .v6(let high, let low):
            [high, low].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> (56 - 8 * $0)) } }
        }
    }

    public var isIPv6: Bool {
        if case .v6 = self { true } else { false }
    }

    /// 127.0.0.0/8 and ::1.
    public var isLoopback: Bool {
        switch self {
        case .v4(let value): value >> 24 == 127
        case .v6(let high, let low): high == 0 && low == 1
        }
    }

    /// 0.0.0.0 and ::.
    public var isUnspecified: Bool { self == .v4(0) || self == .v6(0, 0) }

    /// 169.254.0.0/16 and fe80::/10.
    public var isLinkLocal: Bool {
        switch self {
        case .v4(let value): value >> 16 == 0xa9fe
        case .v6(let high, _): high >> 54 == 0xfe80 >> 6
        }
    }

    /// The number of bits of an address of this family: 32 or 128.
    public var width: Int { isIPv6 ? 128 : 32 }

    /// The address `offset` above this one, wrapping within the low 32 (IPv4) or 64 (IPv6) bits.
    public func advanced(by offset: UInt32) -> IPAddress {
        switch self {
        case .v4(let value): .v4(value &+ offset)
        case .v6(let high, let low): .v6(high, low &+ UInt64(offset))
        }
    }

    private static func parse4(_ text: Substring) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            // No leading zeros: inet_aton(3) would read them as octal.
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (48...57).contains($0) }),
                part.utf8.count == 1 || part.utf8.first != 48, let byte = UInt8(part)
            else { return nil }
            value = value << 8 | UInt32(byte)
        }
        return value
    }

    private static func parse6(_ text: Substring) -> (UInt64, UInt64)? {
        var text = text
        // The dotted tail of ::ffff:1.2.3.4.
        var tail: [UInt16] = []
        if text.contains("."), let colon = text.lastIndex(of: ":") {
            guard let v4 = parse4(text[text.index(after: colon)...]) else { return nil }
            tail = [UInt16(v4 >> 16), UInt16(truncatingIfNeeded: v4)]
            text = text[...colon]
            if !text.hasSuffix("::") { text.removeLast() }
        }
        func groups(_ part: Substring) -> [UInt16]? {
            if part.isEmpty { return [] }
            var all: [UInt16] = []
            for group in part.split(separator: ":", omittingEmptySubsequences: false) {
                guard (1...4).contains(group.utf8.count), group.first != "+", group.first != "-",
                    let value = UInt16(group, radix: 16)
                else { return nil }
                all.append(value)
            }
            return all
        }
        var words: [UInt16]
        if let gap = text.firstDoubleColon {
            guard let head = groups(text[..<gap]),
                let rest = groups(text[text.index(gap, offsetBy: 2)...]),
                head.count + rest.count + tail.count <= 7
            else { return nil }
            let zeros = [UInt16](repeating: 0, count: 8 - head.count - rest.count - tail.count)
            words = head + zeros + rest + tail
        } else {
            guard let all = groups(text) else { return nil }
            words = all + tail
        }
        guard words.count == 8 else { return nil }
        return (
            words[..<4].reduce(0) { $0 << 16 | UInt64($1) },
            words[4...].reduce(0) { $0 << 16 | UInt64($1) }
        )
    }
}

extension Substring {
    fileprivate var firstDoubleColon: Index? {
        var previous: Index?
        for index in indices {
            if self[index] == ":" {
                if let previous { return previous }
                previous = index
            } else {
                previous = nil
            }
        }
        return nil
    }
}

extension IPAddress: CustomStringConvertible {
    public var description: String {
        switch self {
        case .v4: return bytes.map(String.init).joined(separator: ".")
        case .v6(let high, let low):
            let words = [high, low].flatMap { half in
                (0..<4).map { UInt16(truncatingIfNeeded: half >> (48 - 16 * $0)) }
            }
            // RFC 5952: the first of the longest runs of two or more zero groups is left out.
            var best = 0..<0
            var start = 0
            while start < 8 {
                var end = start
                while end < 8 && words[end] == 0 { end += 1 }
                if end - start > max(1, best.count) { best = start..<end }
                start = max(end, start + 1)
            }
            func text(_ range: some Sequence<UInt16>) -> String {
                range.map { String($0, radix: 16) }.joined(separator: ":")
            }
            if best.isEmpty { return text(words) }
            return text(words[..<best.lowerBound]) + "::" + text(words[best.upperBound...])
        }
    }
}

extension IPAddress: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let address = IPAddress(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "\(text) is no IP address")
        }
        self = address
    }
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension IPAddress: Comparable {
    /// IPv4 before IPv6, then by number.
    public static func < (a: IPAddress, b: IPAddress) -> Bool {
        if a.isIPv6 != b.isIPv6 { return b.isIPv6 }
        return a.bytes.lexicographicallyPrecedes(b.bytes)
    }
}
