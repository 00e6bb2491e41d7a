import Glibc
import LinuxSystem
import Netlink
import Testing

@testable import HostNetwork

/// Guests among each other, and what they may not do.
@Suite(.serialized) struct NeighbourTests {
    init() { Loop.runInBackground() }

    @Loop @Test func guestToGuestAndHairpin() async throws {
        let world = try World()
        let a = try await world.guest("a", "8080:80")
        let b = try await world.guest("b", "8081:80")
        let atA = try Traffic.serve("a", in: a.namespace, "0.0.0.0", 80)
        let atB = try Traffic.serve("b", in: b.namespace, "0.0.0.0", 80)
        let atB6 = try Traffic.serve("b6", in: b.namespace, b.endpoint.ipv6!.address.description, 80)
        #expect(a.endpoint.ipv4 != b.endpoint.ipv4)
        for transport in [TransportProtocol.tcp, .udp] {
            #expect(
                try await Traffic.ask(transport, from: a.namespace, b.endpoint.ipv4.address, 80) == "b \(a.endpoint.ipv4.address)"
            )
            #expect(
                try await Traffic.ask(transport, from: a.namespace, b.endpoint.ipv6!.address, 80)
                    == "b6 \(a.endpoint.ipv6!.address)")
        }
        // By the host's addresses, another's port and its own.
        for host in [World.hostAddress, a.endpoint.gateway4] {
            #expect(try await Traffic.ask(.tcp, from: a.namespace, host, 8081).hasPrefix("b "), "by \(host)")
            #expect(try await Traffic.ask(.tcp, from: a.namespace, host, 8080).hasPrefix("a "), "by \(host)")
        }
        #expect(try await Traffic.ask(.tcp, from: a.namespace, World.hostAddress6, 8081).hasPrefix("b6 "))
        for server in [atA, atB, atB6] { await server.end() }
        await a.stop()
        await b.stop()
        try await world.network.detach("a")
        #expect(try await world.remains().contains("b"))
        try await world.network.detach("b")
        #expect(try await world.remains() == [])
        try world.end()
    }

    @Loop @Test func spoofingIsDropped() async throws {
        let world = try World()
        let a = try await world.guest("a")
        let b = try await world.guest("b")
        let atB = try Traffic.serve("b", in: b.namespace, "0.0.0.0", 80)
        let onHost = try Traffic.serve("host", in: world.host, "127.0.0.1", 7777)
        let onBridge = try Traffic.serve("bridge", in: world.host, "0.0.0.0", 7778)
        let routes = try RouteSocket(in: a.namespace)
        let eth0 = try routes.index(of: "eth0")
        let target = b.endpoint.ipv4.address
        func ask(_ source: String) async throws -> String {
            try await Traffic.ask(.udp, from: a.namespace, target, 80, patience: .milliseconds(400), source: IPAddress(source)!)
        }
        #expect(try await ask(a.endpoint.ipv4.address.description).hasPrefix("b "))
        // Another's address.
        try routes.addAddress(IPNetwork("10.213.77.77/16")!, to: eth0)
        #expect(try await ask("10.213.77.77") == "silence")
        try routes.addAddress(IPNetwork(a.endpoint.gateway6!.advanced(by: 7777), prefixLength: 64)!, to: eth0)
        #expect(
            try await Traffic.ask(
                .udp, from: a.namespace, a.endpoint.gateway6!, 7778, patience: .milliseconds(400),
                source: a.endpoint.gateway6!.advanced(by: 7777)) == "silence")
        // The host's loopback, by way of a route.
        try routes.addRoute(Route(to: IPNetwork("127.0.0.1/32")!, gateway: a.endpoint.gateway4, link: eth0))
        _ = try a.namespace.inside { try writeFile("/proc/sys/net/ipv4/conf/eth0/route_localnet", Array("1".utf8)) }
        try routes.removeAddress(IPNetwork("127.0.0.1/8")!, from: routes.index(of: "lo"))
        #expect(
            try await Traffic.ask(
                .udp, from: a.namespace, IPAddress("127.0.0.1")!, 7777, patience: .milliseconds(400),
                source: a.endpoint.ipv4.address) == "silence")
        #expect(try await Traffic.ask(.udp, from: a.namespace, a.endpoint.gateway4, 7778).hasPrefix("bridge "))
        // Another's hardware address.
        try routes.change(eth0, up: false)
        try routes.change(eth0, mac: MACAddress("02:00:00:00:00:99")!)
        try routes.change(eth0, up: true)
        try routes.addRoute(Route(defaultBy: a.endpoint.gateway4))
        #expect(try await ask(a.endpoint.ipv4.address.description) != "b \(a.endpoint.ipv4.address)")
        for server in [atB, onHost, onBridge] { await server.end() }
        await a.stop()
        await b.stop()
        try await world.network.detach("a")
        try await world.network.detach("b")
        #expect(try await world.remains() == [])
        try world.end()
    }

    /// A resolver that listens on the host's loopback only, and one that answers only the loopback's clients.
    @Loop @Test(arguments: ["127.0.0.1", "127.0.0.54"])
    func loopbackResolver(address: String) async throws {
        let world = try World(resolvConf: "search example.org\nnameserver \(address)\noptions ndots:2\n")
        let resolver = try Traffic.serve("resolver", in: world.host, address, 53)
        let a = try await world.guest("a")
        #expect(
            a.endpoint.resolver
                == GuestResolver(nameservers: [a.endpoint.gateway4], search: ["example.org"], options: ["ndots:2"]))
        for transport in [TransportProtocol.tcp, .udp] {
            #expect(try await Traffic.ask(transport, from: a.namespace, a.endpoint.gateway4, 53) == "resolver 127.0.0.1")
        }
        // The way is for port 53 only.
        let other = try Traffic.serve("other", in: world.host, address, 54)
        #expect(try await Traffic.ask(.tcp, from: a.namespace, a.endpoint.gateway4, 54) == "refused")
        await resolver.end()
        await other.end()
        await a.stop()
        try await world.network.detach("a")
        #expect(try await world.remains() == [])
        try world.end()
    }
}
