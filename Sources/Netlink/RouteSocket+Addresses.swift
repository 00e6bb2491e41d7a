import CLinux
import Glibc

extension RouteSocket {
    /// The addresses of one interface, or of all.
    public func addresses(of index: Int32? = nil) throws -> [LinkAddress] {
        try connection.dump(
            "list the network addresses", RouteMessage.Kind.getAddress, [0, 0, 0, 0, 0, 0, 0, 0]
        )
        .map { try LinkAddress(payload: $0.payload) }
        .filter { index == nil || $0.link == index }
    }

    /// Gives an interface an address; one that it has already is fine. An IPv6 address is usable at once: no duplicate
    /// address detection (IFA_F_NODAD).
    public func addAddress(_ address: IPNetwork, to index: Int32) throws {
        var attributes = NetlinkAttributes()
        attributes.put(1, address.address.bytes)
        attributes.put(2, address.address.bytes)
        do {
            try connection.request(
                "give the address \(address) to the network interface \(index)",
                RouteMessage.Kind.newAddress,
                flags: RouteMessage.Flag.create | RouteMessage.Flag.exclusive,
                RouteMessage.address(address, index: index, flags: address.address.isIPv6 ? 2 : 0),
                attributes)
        } catch let error as NetlinkError where error.code == EEXIST {
            // It is there, as wanted.
        }
    }

    /// Takes an address away; one that is not there is fine.
    public func removeAddress(_ address: IPNetwork, from index: Int32) throws {
        var attributes = NetlinkAttributes()
        attributes.put(1, address.address.bytes)
        attributes.put(2, address.address.bytes)
        do {
            try connection.request(
                "take the address \(address) from the network interface \(index)",
                RouteMessage.Kind.deleteAddress,
                RouteMessage.address(address, index: index, flags: 0), attributes)
        } catch let error as NetlinkError where error.code == EADDRNOTAVAIL || error.code == ENODEV {
            // Gone, as wanted.
        }
    }

    /// The unicast routes of the main table.
    public func routes() throws -> [Route] {
        try connection.dump(
            "list the routes", RouteMessage.Kind.getRoute, [UInt8](repeating: 0, count: 12)
        ).compactMap { try Route(payload: $0.payload) }
    }

    /// Adds a route to the main table; the same one there already is fine.
    public func addRoute(_ route: Route) throws {
        do {
            try connection.request(
                "add the route to \(Self.words(route))", RouteMessage.Kind.newRoute,
                flags: RouteMessage.Flag.create | RouteMessage.Flag.exclusive, RouteMessage.route(route),
                route.attributes)
        } catch let error as NetlinkError where error.code == EEXIST {
            guard
                try routes().contains(where: {
                    $0.destination?.network == route.destination?.network && $0.isIPv6 == route.isIPv6
                        && $0.gateway == route.gateway
                })
            else { throw error }
        }
    }

    /// Removes a route from the main table; one that is not there is fine.
    public func removeRoute(_ route: Route) throws {
        do {
            try connection.request(
                "remove the route to \(Self.words(route))", RouteMessage.Kind.deleteRoute,
                RouteMessage.route(route), route.attributes)
        } catch let error as NetlinkError where error.code == ESRCH {
            // Gone, as wanted.
        }
    }

    private static func words(_ route: Route) -> String {
        let goal = route.destination?.description ?? "everywhere"
        return route.gateway.map { "\(goal) by way of \($0)" } ?? goal
    }
}
