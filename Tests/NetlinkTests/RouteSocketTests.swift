import Glibc
import LinuxSystem
import Testing

@testable import Netlink

/// The kernel's own answers, in a network namespace of the test's.
@Suite struct RouteSocketTests {
    init() { Loop.runInBackground() }

    @Loop @Test func opensInAnotherNamespaceAndComesBack() throws {
        let home = try NetworkNamespace.current().identifier()
        let other = try NetworkNamespace.make()
        #expect(try NetworkNamespace.current().identifier() == home)
        #expect(try other.identifier() != home)
        let inside = try other.inside { try NetworkNamespace.current().identifier() }
        #expect(inside == (try other.identifier()))
        struct Failure: Error {}
        #expect(throws: Failure.self) { try other.inside { throw Failure() } }
        #expect(try NetworkNamespace.current().identifier() == home)
        // Only loopback is in a new one, and it is down.
        let links = try RouteSocket(in: other).links()
        #expect(links.map(\.name).contains("lo"))
        #expect(links.allSatisfy { !$0.isUp })
    }

    @Loop @Test func bridgeVethAddressesRoutes() throws {
        let one = try NetworkNamespace.make()
        let two = try NetworkNamespace.make()
        let socket = try RouteSocket(in: one)
        let mac = MACAddress("02:68:00:00:00:01")!
        try socket.createBridge("br0", mac: mac, mtu: 1400)
        #expect(throws: NetlinkError.self) { try socket.createBridge("br0") }
        let bridge = try #require(try socket.link(named: "br0"))
        #expect(bridge.kind == "bridge")
        #expect(bridge.mac == mac)
        #expect(bridge.mtu == 1400)
        #expect(!bridge.isUp)
        try socket.createVeth("left", peer: "eth0", peerNamespace: two)
        let left = try socket.index(of: "left")
        try socket.change(left, up: true, master: bridge.index, noLinkLocal: true)
        try socket.change(bridge.index, up: true)
        #expect(try socket.link(named: "left")?.master == bridge.index)
        #expect(try socket.link(named: "br0")?.isUp == true)
        #expect(try socket.addresses(of: left).isEmpty)

        let v4 = IPNetwork("10.9.0.1/24")!
        let v6 = IPNetwork("fd00:9::1/64")!
        try socket.addAddress(v4, to: bridge.index)
        try socket.addAddress(v4, to: bridge.index)  // again is fine
        try socket.addAddress(v6, to: bridge.index)
        let addresses = try socket.addresses(of: bridge.index).map(\.address)
        #expect(addresses.contains(v4) && addresses.contains(v6))
        try socket.addRoute(Route(to: IPNetwork("10.77.0.0/16")!, gateway: IPAddress("10.9.0.2")!))
        try socket.addRoute(Route(to: IPNetwork("10.77.0.0/16")!, gateway: IPAddress("10.9.0.2")!))
        try socket.addRoute(Route(defaultBy: IPAddress("10.9.0.3")!))
        try socket.addRoute(Route(defaultBy: IPAddress("fd00:9::2")!))
        var routes = try socket.routes()
        #expect(routes.contains { $0.destination == IPNetwork("10.77.0.0/16")! && $0.gateway == IPAddress("10.9.0.2") })
        #expect(routes.contains { $0.destination == nil && $0.gateway == IPAddress("fd00:9::2") && $0.isIPv6 })
        #expect(routes.contains { $0.destination == IPNetwork("10.9.0.0/24")! && $0.link == bridge.index })
        try socket.removeRoute(Route(defaultBy: IPAddress("10.9.0.3")!))
        try socket.removeRoute(Route(defaultBy: IPAddress("10.9.0.3")!))
        routes = try socket.routes()
        #expect(!routes.contains { $0.gateway == IPAddress("10.9.0.3") })
        try socket.removeAddress(v4, from: bridge.index)
        try socket.removeAddress(v4, from: bridge.index)
        #expect(!(try socket.addresses(of: bridge.index).map(\.address).contains(v4)))

        // Its other end is over there; and the namespace it moves to is told by a descriptor.
        let there = try RouteSocket(in: two)
        let eth0 = try there.index(of: "eth0")
        try there.change(eth0, name: "moved")
        try there.change(eth0, namespace: one)
        #expect(try there.link(named: "moved") == nil)
        #expect(try socket.link(named: "moved") != nil)
        try socket.delete(named: "left")
        try socket.delete(named: "left")
        #expect(try socket.link(named: "moved") == nil)
        try socket.delete(named: "br0")
        #expect(throws: NetlinkError.self) { try socket.delete(bridge.index) }
    }

    @Loop @Test func tapGoesWithItsLastHolder() throws {
        let namespace = try NetworkNamespace.make()
        let socket = try RouteSocket(in: namespace)
        do {
            let tap = try Tap.open("tap7", in: namespace)
            #expect(try socket.link(named: "tap7")?.kind == "tun")
            #expect(throws: SystemError.self) { try Tap.open("tap7", in: namespace) }
            withExtendedLifetime(tap) {}
        }
        #expect(try socket.link(named: "tap7") == nil)
    }

    @Loop @Test func manyLinksFillMoreThanOneDatagram() throws {
        let namespace = try NetworkNamespace.make()
        let socket = try RouteSocket(in: namespace)
        for number in 0..<100 { try socket.createVeth("a\(number)", peer: "b\(number)") }
        let names = Set(try socket.links().map(\.name))
        #expect((0..<100).allSatisfy { names.contains("a\($0)") && names.contains("b\($0)") })
    }

    @Loop @Test func refusalsSayWhatAndWhy() throws {
        let namespace = try NetworkNamespace.make()
        let socket = try RouteSocket(in: namespace)
        do {
            try socket.addRoute(Route(defaultBy: IPAddress("10.1.1.1")!))
            Issue.record("a route to nowhere was taken")
        } catch let error as NetlinkError {
            #expect(error.code == ENETUNREACH)
            #expect(error.description.contains("10.1.1.1"))
            #expect(error.detail == "Nexthop has invalid gateway")
        }
        for name in ["", "a/b", "sixteen-letters-", "a b", ".."] {
            #expect(throws: SystemError.self) { try socket.createBridge(name) }
        }
    }
}
