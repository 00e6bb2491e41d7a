/// rtnetlink(7)'s numbers, fixed parts, and the values that Hull reads from them. Pure.
enum RouteMessage {
    enum Kind {
        static let newLink: UInt16 = 16
        static let deleteLink: UInt16 = 17
        static let getLink: UInt16 = 18
        static let setLink: UInt16 = 19
        static let newAddress: UInt16 = 20
        static let deleteAddress: UInt16 = 21
        static let getAddress: UInt16 = 22
        static let newRoute: UInt16 = 24
        static let deleteRoute: UInt16 = 25
        static let getRoute: UInt16 = 26
    }
    enum Flag {
        static let request: UInt16 = 1
        static let acknowledge: UInt16 = 4
        static let dump: UInt16 = 0x300
        static let replace: UInt16 = 0x100
        static let exclusive: UInt16 = 0x200
        static let create: UInt16 = 0x400
    }

    /// struct ifinfomsg.
    static func link(index: Int32 = 0, flags: UInt32 = 0, change: UInt32 = 0, family: UInt8 = 0)
        -> [UInt8]
    {
        var bytes: [UInt8] = [family, 0, 0, 0]
        bytes.appendNative(index)
        bytes.appendNative(flags)
        bytes.appendNative(change)
        return bytes
    }

    /// struct ifaddrmsg.
    static func address(_ address: IPNetwork, index: Int32, flags: UInt8) -> [UInt8] {
        let scope: UInt8 = address.address.isLoopback ? 254 : address.address.isLinkLocal ? 253 : 0
        var bytes: [UInt8] = [
            family(address.address), UInt8(address.prefixLength), flags, scope,
        ]
        bytes.appendNative(index)
        return bytes
    }

    /// struct rtmsg of a unicast route in the main table, made by an administrator (RTPROT_STATIC).
    static func route(_ route: Route) -> [UInt8] {
        let onLink = route.gateway == nil && !route.isIPv6
        return [
            route.isIPv6 ? 10 : 2, UInt8(route.destination?.prefixLength ?? 0), 0, 0,
            254, 4, onLink ? 253 : 0, 1, 0, 0, 0, 0,
        ]
    }

    static func family(_ address: IPAddress) -> UInt8 { address.isIPv6 ? 10 : 2 }
}

/// A network interface, as the kernel describes it.
public struct Link: Hashable, Sendable {
    public var index: Int32
    public var name: String
    /// `bridge`, `tun`, `veth` …; nil for hardware.
    public var kind: String?
    public var mac: MACAddress?
    public var mtu: UInt32
    /// Whether it is set up (IFF_UP), and whether it can carry packets (IFF_RUNNING).
    public var isUp: Bool
    public var isRunning: Bool
    /// The index of the bridge that it is a port of.
    public var master: Int32?

    /// From the payload of an RTM_NEWLINK.
    init(payload: [UInt8]) throws(MalformedMessage) {
        guard let index: Int32 = payload.native(at: 4), let flags: UInt32 = payload.native(at: 8) else {
            throw MalformedMessage("a link's fixed part")
        }
        let attributes = try NetlinkAttributes.decode(payload, from: 16)
        guard let name = attributes[3] else { throw MalformedMessage("a link without a name") }
        self.index = index
        self.name = name.zeroTerminated
        isUp = flags & 1 != 0
        isRunning = flags & 0x40 != 0
        mac = attributes[1].flatMap { MACAddress(bytes: $0) }
        mtu = attributes[4]?.native(at: 0) ?? 0
        master = attributes[10]?.native(at: 0)
        if let information = attributes[18] {
            kind = try NetlinkAttributes.decode(information)[1]?.zeroTerminated
        }
    }
}

/// An interface's address.
public struct LinkAddress: Hashable, Sendable {
    /// The interface's index.
    public var link: Int32
    public var address: IPNetwork

    /// From the payload of an RTM_NEWADDR.
    init(payload: [UInt8]) throws(MalformedMessage) {
        guard let index: Int32 = payload.native(at: 4) else {
            throw MalformedMessage("an address's fixed part")
        }
        let attributes = try NetlinkAttributes.decode(payload, from: 8)
        // IFA_LOCAL is the own address where IFA_ADDRESS is a peer's.
        guard let bytes = attributes[2] ?? attributes[1], let address = IPAddress(bytes: bytes),
            let network = IPNetwork(address, prefixLength: Int(payload[1]))
        else { throw MalformedMessage("an address") }
        link = index
        self.address = network
    }
}

/// A unicast route of the main table.
public struct Route: Hashable, Sendable {
    /// Nil is the default route of the family that `gateway` has, or `isIPv6` says.
    public var destination: IPNetwork?
    public var gateway: IPAddress?
    /// The interface's index.
    public var link: Int32?
    public var isIPv6: Bool
    /// Smaller ones are preferred; nil is the kernel's default.
    public var metric: UInt32?

    /// A route to `destination`, by way of `gateway` or directly on `link`.
    public init(to destination: IPNetwork, gateway: IPAddress? = nil, link: Int32? = nil) {
        self.destination = destination
        self.gateway = gateway
        self.link = link
        isIPv6 = destination.address.isIPv6
    }

    /// The default route by way of `gateway`.
    public init(defaultBy gateway: IPAddress, link: Int32? = nil) {
        self.gateway = gateway
        self.link = link
        isIPv6 = gateway.isIPv6
    }

    /// From the payload of an RTM_NEWROUTE; nil for what is not a unicast route of the main table.
    init?(payload: [UInt8]) throws(MalformedMessage) {
        guard payload.count >= 12 else { throw MalformedMessage("a route's fixed part") }
        let attributes = try NetlinkAttributes.decode(payload, from: 12)
        let table: UInt32 = attributes[15]?.native(at: 0) ?? UInt32(payload[4])
        guard table == 254, payload[7] == 1, payload[0] == 2 || payload[0] == 10 else { return nil }
        isIPv6 = payload[0] == 10
        gateway = attributes[5].flatMap { IPAddress(bytes: $0) }
        link = attributes[4]?.native(at: 0)
        metric = attributes[6]?.native(at: 0)
        if payload[1] != 0 {
            guard let bytes = attributes[1], let address = IPAddress(bytes: bytes),
                let network = IPNetwork(address, prefixLength: Int(payload[1]))
            else { throw MalformedMessage("a route's destination") }
            destination = network
        }
    }

    /// The attributes that follow the fixed part.
    var attributes: NetlinkAttributes {
        var all = NetlinkAttributes()
        if let destination { all.put(1, destination.base.bytes) }
        if let gateway { all.put(5, gateway.bytes) }
        if let link { all.put(4, UInt32(bitPattern: link)) }
        if let metric { all.put(6, metric) }
        return all
    }
}
