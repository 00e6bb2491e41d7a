import CLinux
import Glibc
import LinuxSystem

extension RouteSocket {
    /// All interfaces of the namespace.
    public func links() throws -> [Link] {
        try connection.dump("list the network interfaces", RouteMessage.Kind.getLink, RouteMessage.link())
            .map { try Link(payload: $0.payload) }
    }

    /// The interface of that name; nil when there is none.
    public func link(named name: String) throws -> Link? {
        var attributes = NetlinkAttributes()
        attributes.put(3, name)
        do {
            return try connection.get(
                "look for the network interface \(name)", RouteMessage.Kind.getLink, RouteMessage.link(),
                attributes
            ).first.map { try Link(payload: $0.payload) }
        } catch let error as NetlinkError where error.code == ENODEV {
            return nil
        }
    }

    /// The index of the interface of that name. Throws ENODEV when there is none.
    public func index(of name: String) throws -> Int32 {
        guard let link = try link(named: name) else {
            throw NetlinkError(
                operation: "look for the network interface \(name)", code: ENODEV, detail: "")
        }
        return link.index
    }

    /// Makes a bridge without spanning tree and without waiting: Documentation/networking/bridge.rst. Throws EEXIST.
    public func createBridge(_ name: String, mac: MACAddress? = nil, mtu: UInt32? = nil) throws {
        try create("make the bridge \(name)", name, kind: "bridge", mac: mac, mtu: mtu) { data in
            data.put(1, UInt32(0))  // IFLA_BR_FORWARD_DELAY
            data.put(5, UInt32(0))  // IFLA_BR_STP_STATE
            data.put(23, UInt8(0))  // IFLA_BR_MCAST_SNOOPING: few ports, and neighbour discovery is multicast
        }
    }

    /// Makes a pair of interfaces; the second one in `peerNamespace`, if given. Throws EEXIST.
    public func createVeth(
        _ name: String, peer: String, peerNamespace: NetworkNamespace? = nil,
        peerMAC: MACAddress? = nil
    ) throws {
        try create("make the interfaces \(name) and \(peer)", name, kind: "veth") { data in
            var inner = NetlinkAttributes()
            inner.put(3, peer)
            if let peerMAC { inner.put(1, peerMAC.bytes) }
            if let peerNamespace { inner.put(28, UInt32(bitPattern: peerNamespace.descriptor.raw)) }
            data.put(1, RouteMessage.link() + inner.bytes)  // VETH_INFO_PEER
        }
    }

    private func create(
        _ operation: String, _ name: String, kind: String, mac: MACAddress? = nil, mtu: UInt32? = nil,
        _ data: (inout NetlinkAttributes) -> Void
    ) throws {
        try checkName(name)
        var attributes = NetlinkAttributes()
        attributes.put(3, name)
        if let mac { attributes.put(1, mac.bytes) }
        if let mtu { attributes.put(4, mtu) }
        attributes.nest(18) { information in
            information.put(1, Array(kind.utf8))
            information.nest(2, data)
        }
        try connection.request(
            operation, RouteMessage.Kind.newLink,
            flags: RouteMessage.Flag.create | RouteMessage.Flag.exclusive, RouteMessage.link(),
            attributes)
    }

    /// Changes an interface, in one step of the kernel's; nil leaves a thing as it is. A `master` of 0 takes it off its
    /// bridge.
    /// With `noLinkLocal` the kernel gives it no IPv6 address of its own when it comes up.
    public func change(
        _ index: Int32, up: Bool? = nil, name: String? = nil, master: Int32? = nil, mtu: UInt32? = nil,
        mac: MACAddress? = nil, namespace: NetworkNamespace? = nil, group: UInt32? = nil, noLinkLocal: Bool = false
    ) throws {
        if let name { try checkName(name) }
        var attributes = NetlinkAttributes()
        if let name { attributes.put(3, name) }
        if let mac { attributes.put(1, mac.bytes) }
        if let mtu { attributes.put(4, mtu) }
        if let master { attributes.put(10, UInt32(bitPattern: master)) }
        if let group { attributes.put(27, group) }
        if let namespace { attributes.put(28, UInt32(bitPattern: namespace.descriptor.raw)) }
        // A link whose MTU is below IPv6's least (RFC 8200, 5) has no IPv6 and refuses to hear of it.
        if noLinkLocal, mtu.map({ $0 >= 1280 }) ?? true {
            // IFLA_AF_SPEC › AF_INET6 › IFLA_INET6_ADDR_GEN_MODE: none
            attributes.nest(26) { $0.nest(10) { $0.put(8, UInt8(1)) } }
        }
        try connection.request(
            "change the network interface \(index)", RouteMessage.Kind.setLink,
            RouteMessage.link(
                index: index, flags: up == true ? 1 : 0, change: up == nil ? 0 : 1), attributes)
    }

    /// Lets a bridge's port send a frame back to where it came from (IFLA_BRPORT_MODE; bridge(8), "hairpin").
    public func setHairpin(_ index: Int32, _ on: Bool) throws {
        var attributes = NetlinkAttributes()
        attributes.nest(12 | 0x8000 /* IFLA_PROTINFO, NLA_F_NESTED */) { $0.put(4, UInt8(on ? 1 : 0)) }
        try connection.request(
            "change the bridge's port \(index)", RouteMessage.Kind.setLink,
            RouteMessage.link(index: index, family: 7 /* AF_BRIDGE */), attributes)
    }

    /// Removes an interface. Throws ENODEV when there is none.
    public func delete(_ index: Int32) throws {
        try connection.request(
            "remove the network interface \(index)", RouteMessage.Kind.deleteLink,
            RouteMessage.link(index: index))
    }

    /// Removes all interfaces of a group but 0 at once (ip-link(8)): the kernel waits for its readers once, and not for each. None is fine.
    public func delete(group: UInt32) throws {
        var attributes = NetlinkAttributes()
        attributes.put(27, group)
        do {
            try connection.request(
                "remove the network interfaces of group \(group)", RouteMessage.Kind.deleteLink, RouteMessage.link(), attributes)
        } catch let error as NetlinkError where error.code == ENODEV {
            // Gone, as wanted.
        }
    }

    /// Removes the interface of that name; none is fine.
    public func delete(named name: String) throws {
        var attributes = NetlinkAttributes()
        attributes.put(3, name)
        do {
            try connection.request(
                "remove the network interface \(name)", RouteMessage.Kind.deleteLink, RouteMessage.link(),
                attributes)
        } catch let error as NetlinkError where error.code == ENODEV {
            // Gone, as wanted.
        }
    }

    /// IFNAMSIZ is 16 with the final zero; dev_valid_name() of net/core/dev.c.
    private func checkName(_ name: String) throws(SystemError) {
        guard (1...15).contains(name.utf8.count), name != ".", name != "..",
            !name.utf8.contains(where: { $0 == 47 || $0 == 58 || $0 <= 32 })
        else { throw SystemError("name a network interface", name, code: EINVAL) }
    }
}
