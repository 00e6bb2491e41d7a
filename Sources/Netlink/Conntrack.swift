import LinuxSystem

/// A connection that the kernel tracks: what its first packet said, and what answers are expected to say.
struct TrackedConnection: Equatable, Sendable {
    /// IPPROTO_UDP is 17.
    var transport: UInt8
    var destinationPort: UInt16
    /// Where answers come from: the guest, where the connection was led to one.
    var answering: IPAddress
    /// What names it to the kernel.
    var original: [UInt8]
    var identifier: [UInt8]?

    /// From the payload of an IPCTNL_MSG_CT_NEW (linux/netfilter/nfnetlink_conntrack.h); nil for what has no ports.
    init?(payload: [UInt8]) throws(MalformedMessage) {
        let attributes = try NetlinkAttributes.decode(payload, from: 4)
        guard let original = attributes[1], let reply = attributes[2] else { return nil }
        guard let protocolPart = try NetlinkAttributes.decode(original)[2],
            let addresses = try NetlinkAttributes.decode(reply)[1]
        else { return nil }
        let ports = try NetlinkAttributes.decode(protocolPart)
        let answers = try NetlinkAttributes.decode(addresses)
        guard let transport = ports[1]?.first, let port: UInt16 = ports[3]?.native(at: 0),
            let answering = (answers[1] ?? answers[3]).flatMap({ IPAddress(bytes: $0) })
        else { return nil }
        self.transport = transport
        destinationPort = UInt16(bigEndian: port)
        self.answering = answering
        self.original = original
        identifier = attributes[12]
    }
}

/// The kernel's table of tracked connections in one network namespace.
public final class Conntrack: Sendable {
    private let connection: NetlinkConnection

    /// Opens a socket in `namespace`, or where the calling thread is.
    public init(in namespace: NetworkNamespace? = nil) throws {
        connection = try NetlinkConnection(family: 12 /* NETLINK_NETFILTER */, in: namespace)
    }

    /// Forgets the UDP flows to one of `ports` that `guests` do not answer, and, with `andTheirs`, those that they do: a flow is
    /// translated as its first packet was, for as long as its sender goes on, whatever the rules say by then. (TCP's end by themselves.)
    public func forgetDatagrams(to ports: Set<UInt16>, notAnsweredBy guests: Set<IPAddress>, andTheirs: Bool = false) throws {
        for family in [2, 10] as [UInt8] {
            let fixed: [UInt8] = [family, 0, 0, 0]
            let all = try connection.dump("list the tracked connections", 1 << 8 | 1, fixed)
            for flow in try all.compactMap({ try TrackedConnection(payload: $0.payload) })
            where flow.transport == 17 && ports.contains(flow.destinationPort) && (andTheirs || !guests.contains(flow.answering))
            {
                var attributes = NetlinkAttributes()
                attributes.put(1 | 0x8000 /* NLA_F_NESTED */, flow.original)
                if let identifier = flow.identifier { attributes.put(12, identifier) }
                do {
                    try connection.request("forget a tracked connection", 1 << 8 | 2, fixed, attributes)
                } catch let error as NetlinkError where error.code == 2 /* ENOENT */ {
                    // It ended meanwhile.
                }
            }
        }
    }
}
