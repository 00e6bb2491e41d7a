import Glibc
import LinuxSystem
import Netlink

extension HostNetwork {
    /// Makes an endpoint, and the network around it if it is the first: `begin`, and all that it leaves open.
    @Loop
    public func attach(_ request: EndpointRequest, withTap: Bool = true) async throws -> Attachment {
        let begun = try await begin(request, withTap: withTap)
        try await begun.connected()
        return begun.attachment
    }

    /// Makes an endpoint's record and its tap, which leads nowhere yet; rules, bridge and the tap's place in it are made meanwhile, with the
    /// network locked: `connected` waits for them. The record is written before anything is made, so
    /// that `detach(key)` can undo it wherever this ends. A key that has an endpoint already is detached first. Throws
    /// `HostNetworkError`, `NetlinkError`, `SystemError`.
    /// Without `withTap` the host's end of it is an interface that somebody else makes, and that is then given to `connect`.
    @Loop
    public func begin(_ request: EndpointRequest, withTap: Bool = true) async throws -> BegunAttachment {
        try records.prepare()
        let lock = try await records.lock()
        var others = try records.endpoints()
        if let old = others.first(where: { $0.key == request.key }) {
            others.removeAll { $0.key == request.key }
            try await undo(old, others: others)
        }
        let routes = try RouteSocket(in: namespace)
        let ipv6 = try inside { configuration.ipv6 && Sysctl.hasIPv6 }
        var choice = try choose(routes, others)
        let pool = AddressPool(subnet: choice.subnet, prefix6: ipv6 ? choice.prefix6 : nil)
        guard
            let address = pool.allocate(
                used: Set(others.map(\.ipv4.address)), preferred: request.ipv4, last: choice.last)
        else {
            throw HostNetworkError(
                .noAddress, "give \(request.name) an address: all of \(pool.subnet) are in use; remove a container")
        }
        let (ports, sockets) = try reserve(request, others, ipv6: ipv6)
        let resolver = hostResolver().forGuests(gateway: pool.gateway4)
        let endpoint = Endpoint(
            key: request.key, name: request.name,
            tap: "\(configuration.bridge)t\(String(pool.number(address), radix: 36))",
            bridge: configuration.bridge, mac: request.mac ?? MACAddress(for: address),
            ipv4: IPNetwork(address, prefixLength: pool.subnet.prefixLength)!,
            ipv6: pool.ipv6(for: address).map { IPNetwork($0, prefixLength: 64)! },
            gateway4: pool.gateway4, gateway6: pool.gateway6, mtu: try mtu(routes), ports: ports,
            resolver: resolver.resolver)

        choice.last = address
        try records.write(choice)
        try records.write(endpoint)
        let tap = try await undoing(endpoint, others) {
            // What a tap of that name is left of belongs to nobody: its record would be among the others.
            try routes.delete(named: endpoint.tap)
            return withTap ? try Tap.open(endpoint.tap, in: namespace) : nil
        }
        let rules = Ruleset(table: configuration.table, bridge: configuration.bridge, pool: pool, resolver: resolver.forward)
        let connecting = Task { @Loop in
            defer { withExtendedLifetime(lock) {} }
            try await undoing(endpoint, others) {
                _ = try makeBridge(routes, pool, mtu: endpoint.mtu)
                // The guards stand before the tap leads anywhere.
                try await applyRules(rules, others + [endpoint])
                try await ForeignFirewall(bridge: configuration.bridge, namespace: namespace).open()
                if withTap { try connect(endpoint.tap, to: endpoint) }
                try forgetDatagrams(endpoint, leaving: false)
            }
        }
        return BegunAttachment(
            attachment: Attachment(endpoint: endpoint, tap: tap, reservedPorts: sockets), connecting: connecting)
    }

    /// Makes a part of an endpoint; where that fails, all of the endpoint is undone.
    @Loop
    private func undoing<R>(_ endpoint: Endpoint, _ others: [Endpoint], _ make: @Loop () async throws -> R) async throws -> R {
        do {
            return try await make()
        } catch {
            do {
                try await undo(endpoint, others: others)
            } catch let second {
                throw HostNetworkError(
                    .state, "attach \(endpoint.name) to the network (and then, to undo it: \(second))",
                    cause: error)
            }
            throw error
        }
    }

    /// Makes the interface `name` the host's end of an endpoint: it gets the endpoint's name and becomes a port of its bridge.
    public func connect(_ name: String, to endpoint: Endpoint) throws {
        let routes = try RouteSocket(in: namespace)
        let index = try routes.index(of: name)
        if name != endpoint.tap { try routes.change(index, name: endpoint.tap) }
        try routes.change(
            index, master: try routes.index(of: endpoint.bridge), mtu: endpoint.mtu, noLinkLocal: endpoint.ipv6 != nil)
        // A guest's connection to its own published port: where br_netfilter is at work, the translated frame does not
        // leave the bridge.
        try routes.setHairpin(index, true)
        try routes.change(index, up: true)
    }

    /// The subnet of those who are there, else the one chosen before if it still collides with nothing, else a new one.
    private func choose(_ routes: RouteSocket, _ others: [Endpoint]) throws -> NetworkRecords.Choice {
        let before = try records.choice()
        if let before, !others.isEmpty { return before }
        let own = try routes.link(named: configuration.bridge)?.index
        let taken =
            try routes.routes()
            .filter { $0.link != own && !$0.isIPv6 }.compactMap(\.destination)
            + hostResolver().nameservers.filter { !$0.isIPv6 }.map { IPNetwork($0, prefixLength: 32)! }
        if let before, AddressPool.chooseSubnet([before.subnet], taken: taken) != nil { return before }
        guard let subnet = AddressPool.chooseSubnet(configuration.subnets, taken: taken) else {
            throw HostNetworkError(
                .noAddress,
                "choose a subnet: each of \(configuration.subnets.map(\.description).joined(separator: ", ")) collides with a "
                    + "route of this host"
            )
        }
        return NetworkRecords.Choice(
            subnet: subnet, prefix6: before?.prefix6 ?? AddressPool.randomPrefix6())
    }

    private func reserve(_ request: EndpointRequest, _ others: [Endpoint], ipv6: Bool) throws -> (
        [PublishedPort], [ReservedPort]
    ) {
        try inside {
            var ports: [PublishedPort] = []
            var sockets: [ReservedPort] = []
            // Wishes first: a free one must not take what another asks for by number.
            let ordered = request.ports.filter { $0.hostPorts != nil } + request.ports.filter { $0.hostPorts == nil }
            for wish in ordered {
                let result = try PortReservation.reserve(wish, ipv6: ipv6) { port in
                    others.first { other in
                        other.ports.contains { $0.hostPort == port && $0.transport == wish.transport }
                    }?.name
                }
                ports.append(result.port)
                sockets += result.sockets.map { ReservedPort(port: result.port, address: $0.address, socket: $0.socket) }
            }
            return (ports, sockets)
        }
    }

    private func makeBridge(_ routes: RouteSocket, _ pool: AddressPool, mtu: UInt32) throws -> Int32 {
        let name = configuration.bridge
        if try routes.link(named: name) == nil {
            // An address of its own: a bridge without one takes its ports', and changes it as they come and go.
            try routes.createBridge(name, mac: MACAddress(for: pool.gateway4), mtu: mtu)
        }
        guard let link = try routes.link(named: name), link.kind == "bridge" else {
            throw HostNetworkError(
                .state, "make the bridge \(name): another kind of network interface has that name; rename it")
        }
        try inside {
            try Sysctl.prepare(bridge: name, ipv6: pool.prefix6 != nil)
            try Sysctl.forward(ipv6: pool.prefix6 != nil)
        }
        let present = Set(try routes.addresses(of: link.index).map(\.address))
        let wanted = [
            IPNetwork(pool.gateway4, prefixLength: pool.subnet.prefixLength),
            pool.gateway6.flatMap { IPNetwork($0, prefixLength: 64) },
        ].compactMap(\.self)
        for address in wanted where !present.contains(address) {
            try routes.addAddress(address, to: link.index)
        }
        if !link.isUp { try routes.change(link.index, up: true) }
        return link.index
    }

    @Loop
    private func applyRules(_ rules: Ruleset, _ endpoints: [Endpoint]) async throws {
        let firewall = Firewall(namespace: namespace)
        do {
            try await firewall.apply(rules.ensuring(endpoints))
        } catch is HostNetworkError {
            // What is there contradicts the records, e.g. an element that a killed process left: the records are right.
            try await firewall.apply(rules.replacing(endpoints))
        }
    }

    /// The MTU that endpoints would get now, in bytes.
    public func mtu() throws -> UInt32 { try mtu(try RouteSocket(in: namespace)) }

    /// That of the interface to the world, so that no packet is too big for it; at most Ethernet's 1500.
    private func mtu(_ routes: RouteSocket) throws -> UInt32 {
        let uplinks = Set(try routes.routes().filter { $0.destination == nil }.compactMap(\.link))
        let least = try routes.links().filter { uplinks.contains($0.index) && $0.mtu >= 1280 }.map(\.mtu).min()
        return min(1500, least ?? 1500)
    }

    private func hostResolver() -> HostResolver {
        // A host without the file has a resolver all the same: resolv.conf(5).
        let resolver = HostResolver((try? readText(configuration.resolvConf)) ?? "")
        guard resolver.isStub, let upstream = try? readText(configuration.upstreamResolvConf) else {
            return resolver  // no stub, or none that says what is behind it
        }
        return HostResolver(upstream)
    }
}
