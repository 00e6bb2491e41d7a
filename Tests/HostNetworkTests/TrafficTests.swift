import Glibc
import LinuxSystem
import Netlink
import Testing

@testable import HostNetwork

/// Real packets through real bridges, taps and rules.
@Suite(.serialized) struct TrafficTests {
    init() { Loop.runInBackground() }

    @Loop @Test func outAndIn() async throws {
        let world = try World()
        let outside = try Traffic.serve("outside", in: world.internet, "0.0.0.0", 7000)
        let outside6 = try Traffic.serve("outside6", in: world.internet, "::", 7001)
        let guest = try await world.guest(
            "one", "8080:80", "8053:53/udp", "127.0.0.1:9000:90", "198.51.100.2:9001:91", "5300-5301:100-101")
        let inner = try Traffic.serve("guest", in: guest.namespace, "0.0.0.0", 80)
        let inner6 = try Traffic.serve("guest6", in: guest.namespace, guest.endpoint.ipv6!.address.description, 80)
        let name = try Traffic.serve("name", in: guest.namespace, "0.0.0.0", 53)
        let bound = try Traffic.serve("bound", in: guest.namespace, "0.0.0.0", 90)
        let one = try Traffic.serve("one", in: guest.namespace, "0.0.0.0", 91)
        let range = try Traffic.serve("range", in: guest.namespace, "0.0.0.0", 101)
        let address = guest.endpoint.ipv4.address

        // Out, as the host.
        for transport in [TransportProtocol.tcp, .udp] {
            #expect(try await Traffic.ask(transport, from: guest.namespace, World.outside, 7000) == "outside 198.51.100.2")
            #expect(try await Traffic.ask(transport, from: guest.namespace, World.outside6, 7001) == "outside6 2001:db8:1::2")
        }
        // In, from outside, with the client's own address.
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress, 8080) == "guest 198.51.100.1")
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress6, 8080) == "guest6 2001:db8:1::1")
        #expect(try await Traffic.ask(.udp, from: world.internet, World.hostAddress, 8053) == "name 198.51.100.1")
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress, 9001) == "one 198.51.100.1")
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress, 5301) == "range 198.51.100.1")
        // From the host itself, by each of its addresses.
        for host in ["127.0.0.1", "127.1.2.3", "198.51.100.2", guest.endpoint.gateway4.description] {
            #expect(try await Traffic.ask(.tcp, from: world.host, IPAddress(host)!, 8080).hasPrefix("guest "), "by \(host)")
            #expect(try await Traffic.ask(.udp, from: world.host, IPAddress(host)!, 8053).hasPrefix("name "), "by \(host)")
        }
        for host in ["2001:db8:1::2", guest.endpoint.gateway6!.description] {
            #expect(try await Traffic.ask(.tcp, from: world.host, IPAddress(host)!, 8080).hasPrefix("guest6 "), "by \(host)")
        }
        #expect(try await Traffic.ask(.tcp, from: world.host, IPAddress("127.0.0.1")!, 9000).hasPrefix("bound "))
        // At ::1 there is the relay, and before it nobody.
        let loopback = IPAddress("::1")!, gateway6 = try #require(guest.endpoint.gateway6)
        #expect(try await Traffic.ask(.tcp, from: world.host, loopback, 8080) == "refused")
        let relay = LoopbackRelay(guest.attachment, in: world.host)
        try relay.start()
        let name6 = try Traffic.serve("name6", in: guest.namespace, guest.endpoint.ipv6!.address.description, 53)
        for _ in 0..<3 {
            #expect(try await Traffic.ask(.tcp, from: world.host, loopback, 8080) == "guest6 \(gateway6)")
            #expect(try await Traffic.ask(.udp, from: world.host, loopback, 8053) == "name6 \(gateway6)")
        }
        // Nobody listens there in the guest; nothing is published on it there.
        #expect(try await Traffic.ask(.tcp, from: world.host, loopback, 5300) != "silence")
        #expect(try await Traffic.ask(.tcp, from: world.host, loopback, 9000) == "refused")
        // What the rules lead away still goes by them, with the client's own address.
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress6, 8080) == "guest6 2001:db8:1::1")
        relay.stop()
        // And directly.
        #expect(try await Traffic.ask(.tcp, from: world.host, address, 80).hasPrefix("guest "))
        // What was published on one address is on no other; what was not published is not reachable.
        #expect(try await Traffic.ask(.tcp, from: world.host, World.hostAddress, 9000) == "refused")
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress, 9000) == "refused")
        #expect(try await Traffic.ask(.tcp, from: world.host, IPAddress("127.0.0.1")!, 9001) == "refused")
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress, 8053) == "refused")
        // The nearest thing to a neighbour who routes his own packets here.
        let there = try RouteSocket(in: world.internet)
        try there.addRoute(Route(to: guest.endpoint.ipv4.network, gateway: World.hostAddress))
        #expect(try await Traffic.ask(.tcp, from: world.internet, address, 80, patience: .milliseconds(500)) == "silence")

        for server in [outside, outside6, inner, inner6, name, name6, bound, one, range] { await server.end() }
        await guest.stop()
        try await world.network.detach("one")
        #expect(try await world.remains() == [])
        try await world.network.detach("one")
        try world.end()
    }
}
