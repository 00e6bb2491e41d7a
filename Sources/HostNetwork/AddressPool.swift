public import Netlink

/// Which addresses are given out: pure.
public struct AddressPool: Sendable {
    /// The IPv4 network, at least a /29; its first address is the gateway's.
    public var subnet: IPNetwork
    /// The IPv6 network, a /64; nil where there is no IPv6.
    public var prefix6: IPNetwork?

    public init(subnet: IPNetwork, prefix6: IPNetwork? = nil) {
        self.subnet = subnet.network
        self.prefix6 = prefix6?.network
    }

    public var gateway4: IPAddress { subnet.base.advanced(by: 1) }
    public var gateway6: IPAddress? { prefix6?.base.advanced(by: 1) }

    /// The number of addresses, that of the network and the broadcast one included.
    private var size: UInt32 { 1 << UInt32(32 - subnet.prefixLength) }

    /// A free address: `preferred` if it is one, else the next after `last` (so that one just given back rests for a while), else
    /// the first. Nil when all are used.
    public func allocate(
        used: Set<IPAddress>, preferred: IPAddress? = nil, last: IPAddress? = nil
    ) -> IPAddress? {
        if let preferred, isAssignable(preferred), !used.contains(preferred) { return preferred }
        let first: UInt32 = 2
        let count = size - 3
        let start = last.flatMap { isAssignable($0) ? number($0) + 1 - first : nil } ?? 0
        // One more than are used is enough to look at.
        for step in 0..<min(count, UInt32(used.count) + 1) {
            let candidate = subnet.base.advanced(by: first + (start + step) % count)
            if !used.contains(candidate) { return candidate }
        }
        return nil
    }

    /// Whether a guest may have it.
    public func isAssignable(_ address: IPAddress) -> Bool {
        guard !address.isIPv6, subnet.contains(address) else { return false }
        return (2..<size - 1).contains(number(address))
    }

    /// The number of an address within the subnet: what its tap and its IPv6 address are named after.
    public func number(_ address: IPAddress) -> UInt32 {
        guard case .v4(let value) = address, case .v4(let base) = subnet.base else { return 0 }
        return value &- base
    }

    /// The IPv6 address that goes with an IPv4 address.
    public func ipv6(for address: IPAddress) -> IPAddress? {
        prefix6?.base.advanced(by: number(address))
    }

    /// The first of `candidates` in which none of `taken` lies; nil when there is none.
    public static func chooseSubnet(_ candidates: [IPNetwork], taken: [IPNetwork]) -> IPNetwork? {
        candidates.first { candidate in !taken.contains { $0.overlaps(candidate) } }
    }

    /// A random unique local prefix (RFC 4193, section 3.2.2: fd, 40 random bits, a subnet number).
    public static func randomPrefix6() -> IPNetwork {
        let global = UInt64.random(in: 0..<(1 << 40))
        return IPNetwork(.v6(0xfd << 56 | global << 16, 0), prefixLength: 64)!
    }
}
