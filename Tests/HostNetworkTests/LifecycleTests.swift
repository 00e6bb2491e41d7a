import Glibc
import LinuxSystem
import Netlink
import Testing

@testable import HostNetwork

/// Attach and detach where something is in the way.
@Suite(.serialized) struct LifecycleTests {
    init() { Loop.runInBackground() }

    @Loop func attach(_ world: World, _ key: String, _ ports: String...) async throws -> Attached {
        try await world.network.attach(
            EndpointRequest(key: key, name: "the-\(key)", ports: ports.flatMap { try PortRequest.parse($0) }))
    }

    @Loop func portError(_ body: () async throws -> Void) async -> String {
        do {
            try await body()
            return "taken"
        } catch let error as HostNetworkError where error.code == .portInUse {
            return error.sentence
        } catch {
            return "\(error)"
        }
    }

    @Loop @Test func portsAreRefusedAndHeld() async throws {
        let world = try World()
        let listener = try Traffic.serve("x", in: world.host, "127.0.0.1", 6000)
        for wish in ["6000:80", "127.0.0.1:6000:80", "6000:80/udp", "0.0.0.0:6000:80"] {
            let sentence = await portError { _ = try await attach(world, "a", wish) }
            #expect(sentence.contains("port is already allocated; another program"), "\(wish): \(sentence)")
        }
        #expect(try await world.remains() == [], "a refused port leaves nothing")
        // Another address, another protocol's port, a range with a free one.
        var a: Attached? = try await attach(
            world, "a", "198.51.100.2:6000:80", "5999-6001:81", "6001-6002:82", "83", "84/udp", "7000:90")
        let ports = a!.endpoint.ports
        #expect(ports.map(\.containerPort) == [80, 81, 82, 90, 83, 84])
        #expect(ports[0].hostPort == 6000 && ports[1].hostPort == 5999 && ports[2].hostPort == 6001)
        #expect(ports[4].hostPort > 1023 && ports[4].description == "*:\(ports[4].hostPort)->83/tcp")
        let second = await portError { _ = try await attach(world, "b", "7000:80") }
        #expect(second.contains("publish 7000/tcp: port is already allocated to the container the-a"))
        // Nobody else gets a held one.
        let thief = try Traffic.socket(in: world.host, .v4(0), SOCK_STREAM)
        #expect(SocketAddress.bind(thief.raw, .v4(0), 7000) == -1 && errno == EADDRINUSE)
        let wrong = await portError { _ = try await attach(world, "b", "203.0.113.7:7000:80") }
        #expect(wrong == "publish on 203.0.113.7: the host has no such address; see `ip address`")
        // The holder's end is the port's end, and the tap's, whether or not anybody detaches.
        #expect(try RouteSocket(in: world.host).link(named: a!.endpoint.tap) != nil)
        a = nil
        #expect(try RouteSocket(in: world.host).link(named: ports.isEmpty ? "" : "hull0t2") == nil)
        try await world.network.detach("a")
        let b = try await attach(world, "b", "7000:80")
        try await world.network.detach("b")
        withExtendedLifetime(b) {}
        await listener.end()
        #expect(try await world.remains() == [])
        try world.end()
    }

    /// Somebody who sends all the time, from one port, before there is a container, to one, and to the next.
    @Loop @Test func datagramsMeetTheRulesAnew() async throws {
        let world = try World()
        let client = try Traffic.socket(in: world.internet, World.outside, SOCK_DGRAM)
        func answers(_ name: String) async throws -> Bool {
            // Late answers of the one before are passed over.
            for _ in 0..<20 {
                _ = SocketAddress.withSockaddr(World.hostAddress, 9999) { address, length in
                    sendto(
                        client.raw, "?", 1, 0x4000,
                        address.assumingMemoryBound(to: sockaddr.self), length)
                }
                do {
                    let answer = try await withDeadline(.milliseconds(200), awaiting: "an answer") {
                        String(decoding: try await readSome(client.raw), as: UTF8.self)
                    }
                    if answer.hasPrefix("\(name) ") { return true }
                } catch is DeadlineError {
                } catch let error as SystemError where error.code == ECONNREFUSED {}
            }
            return false
        }
        // Somebody on the host has the port, and then no more.
        let before = try Traffic.serve("before", in: world.host, "0.0.0.0", 9999)
        #expect(try await answers("before"))
        await before.end()
        let other = try await attach(world, "other")
        for name in ["one", "two"] {
            let guest = try await world.guest(name, "9999:99/udp")
            let server = try Traffic.serve(name, in: guest.namespace, "0.0.0.0", 99)
            #expect(try await answers(name))
            await server.end()
            await guest.stop()
            try await world.network.detach(name)
        }
        withExtendedLifetime(other) {}
        try await world.network.detach("other")
        #expect(try await world.remains() == [])
        try world.end()
    }

    /// A server that has just ended leaves connections in TIME_WAIT: its port is free all the same.
    @Loop @Test func timeWaitIsNobody() async throws {
        let world = try World()
        let server = try Traffic.serve("x", in: world.host, "0.0.0.0", 6100)
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress, 6100).hasPrefix("x "))
        await server.end()
        let a = try await attach(world, "a", "6100:80")
        let thief = try Traffic.socket(in: world.host, .v4(0), SOCK_STREAM)
        #expect(SocketAddress.bind(thief.raw, .v4(0), 6100) == -1 && errno == EADDRINUSE)
        withExtendedLifetime(a) {}
        try await world.network.detach("a")
        try world.end()
    }

    @Loop @Test func halvesOfRecordsGo() async throws {
        let world = try World()
        let a = try await attach(world, "a")
        // What a SIGKILL between a file's writing and its renaming leaves.
        for half in ["state/endpoints/a.json.new-7", "choice.json.new-8"] {
            try writeFile("\(world.folder)/\(half)", [1], flags: O_WRONLY | O_CREAT)
        }
        let b = try await attach(world, "b")
        for key in ["a", "b"] { try await world.network.detach(key) }
        withExtendedLifetime((a, b)) {}
        #expect(try listDirectory("\(world.folder)/state/endpoints") == [])
        #expect(!exists("\(world.folder)/choice.json.new-8"))
        #expect(try await world.remains() == [])
        try world.end()
    }

    @Loop @Test func twentyAtOnce() async throws {
        let world = try World()
        let network = world.network
        let attaching = (0..<20).map { number in
            Task { @Loop in
                try await network.attach(
                    EndpointRequest(key: "c\(number)", name: "c\(number)", ports: [PortRequest(containerPort: 80)]))
            }
        }
        var attachments: [Attached] = []
        for task in attaching { attachments.append(try await task.value) }
        #expect(Set(attachments.map(\.endpoint.ipv4)).count == 20)
        #expect(Set(attachments.map(\.endpoint.mac)).count == 20)
        #expect(Set(attachments.map(\.endpoint.tap)).count == 20)
        #expect(Set(attachments.flatMap(\.endpoint.ports).map(\.hostPort)).count == 20)
        #expect(try network.endpoints().count == 20)
        let detaching = (0..<20).map { number in
            Task { @Loop in try await network.detach("c\(number)") }
        }
        for task in detaching { try await task.value }
        #expect(try await world.remains() == [])
        try world.end()
    }

    /// What is there contradicts the records: the records win.
    @Loop @Test func mendsWhatOthersBroke() async throws {
        let world = try World()
        let a = try await world.guest("a", "8080:80")
        let atA = try Traffic.serve("a", in: a.namespace, "0.0.0.0", 80)
        _ = try await world.nft(["flush", "ruleset"])
        let b = try await attach(world, "b")
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress, 8080).hasPrefix("a "))
        // An element that a killed process left, in the way of another's.
        try await Firewall(namespace: world.host).apply("add element inet hull any4 { tcp . 8081 : 10.213.99.99 . 1 }\n")
        let c = try await attach(world, "c", "8081:80")
        #expect(try await world.nft(["list", "map", "inet", "hull", "any4"]).contains("8081 : \(c.endpoint.ipv4.address) . 80"))
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress, 8080).hasPrefix("a "))
        // The same key again is a new endpoint in the old one's place.
        let again = try await attach(world, "c", "8082:80")
        #expect(try network(world).filter { $0.key == "c" }.map(\.ports) == [again.endpoint.ports])
        _ = try await world.nft(["flush", "ruleset"])
        await atA.end()
        await a.stop()
        for key in ["a", "b", "c"] { try await world.network.detach(key) }
        withExtendedLifetime((b, c)) {}
        #expect(try await world.remains() == [])
        try world.end()
    }

    @Loop @Test func tellsWhoDrops() async throws {
        let world = try World()
        #expect(try await world.network.findings() == [])
        try await Firewall(namespace: world.host).apply(
            "table inet mine { chain block { type filter hook forward priority 0 ; policy drop ; } ; }\n")
        #expect(try await world.network.findings().count == 1)
        try world.end()
    }

    @Loop func network(_ world: World) throws -> [Endpoint] { try world.network.endpoints() }

    /// Every step's end is a state that `detach` can undo.
    @Loop @Test func undoesWhatAKillLeft() async throws {
        let world = try World()
        let routes = try RouteSocket(in: world.host)
        let a = try await attach(world, "a", "8080:80")
        let endpoint = a.endpoint
        try await world.network.detach("a")
        // Only the record; record and bridge; record, bridge and rules.
        for step in 0..<3 {
            try world.network.records.write(endpoint)
            if step > 0 { try routes.createBridge("hull0") }
            if step > 1 {
                let pool = AddressPool(subnet: endpoint.ipv4, prefix6: endpoint.ipv6)
                try await Firewall(namespace: world.host).apply(
                    Ruleset(table: "hull", bridge: "hull0", pool: pool).ensuring([endpoint]))
            }
            #expect(try network(world).map(\.key) == ["a"])
            try await world.network.detach("a")
            #expect(try await world.remains() == [])
        }
        withExtendedLifetime(a) {}
        try world.end()
    }

    @Loop @Test func subnetAvoidsRoutesAndStays() async throws {
        let world = try World(resolvConf: "nameserver 10.171.3.4\n")
        let routes = try RouteSocket(in: world.host)
        try routes.addRoute(Route(to: IPNetwork("10.213.128.0/24")!, gateway: World.outside))
        let a = try await attach(world, "a")
        #expect(a.endpoint.ipv4.description == "172.30.0.2/16")
        #expect(a.endpoint.mtu == 1500)
        #expect(try RouteSocket(in: world.host).link(named: "hull0")?.mac == MACAddress(for: a.endpoint.gateway4))
        let prefix = a.endpoint.ipv6!.network
        try await world.network.detach("a")
        try routes.removeRoute(Route(to: IPNetwork("10.213.128.0/24")!, gateway: World.outside))
        try routes.change(routes.index(of: "eth0"), mtu: 1400)
        let b = try await attach(world, "b")
        #expect(b.endpoint.ipv4.description == "172.30.0.3/16")
        #expect(b.endpoint.ipv6!.network == prefix)
        #expect(b.endpoint.mtu == 1400)
        try await world.network.detach("b")
        // A collision that came later makes it move.
        try routes.addRoute(Route(to: IPNetwork("172.16.0.0/12")!, gateway: World.outside))
        let c = try await attach(world, "c")
        #expect(c.endpoint.ipv4.description == "10.213.0.2/16")
        try await world.network.detach("c")
        #expect(try await world.remains() == [])
        try world.end()
    }

    @Loop @Test func withoutIPv6() async throws {
        let world = try World()
        try world.host.inside { try writeFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", Array("1".utf8)) }
        let outside = try Traffic.serve("outside", in: world.internet, "0.0.0.0", 7000)
        let a = try await world.guest("a", "8080:80")
        #expect(a.endpoint.ipv6 == nil && a.endpoint.gateway6 == nil)
        #expect(try await Traffic.ask(.tcp, from: a.namespace, World.outside, 7000) == "outside 198.51.100.2")
        await outside.end()
        await a.stop()
        try await world.network.detach("a")
        #expect(try await world.remains() == [])
        try world.end()
    }

    /// A router would ignore the advertisements that give the host its own default route.
    @Loop @Test func advertisementsAreStillHeard() async throws {
        let world = try World()
        func read(_ name: String) throws -> String? { try world.host.inside { Sysctl.read(name) } }
        #expect(try read("ipv6/conf/eth0/accept_ra") == "1")
        let a = try await attach(world, "a")
        #expect(try read("ipv6/conf/eth0/accept_ra") == "2")
        #expect(try read("ipv6/conf/hull0/accept_ra") == "0")
        #expect(try read("ipv6/conf/all/forwarding") == "1")
        #expect(try read("ipv4/ip_forward") == "1")
        #expect(try read("ipv4/conf/hull0/route_localnet") == "1")
        #expect(try read("ipv4/conf/eth0/route_localnet") == "0")
        try await world.network.detach("a")
        withExtendedLifetime(a) {}
        try world.end()
    }

    @Loop @Test func damagedAndHostileRecords() async throws {
        let world = try World()
        for key in ["", "..", "a/b", ".hidden", "a b", String(repeating: "k", count: 300)] {
            await #expect(throws: HostNetworkError.self) { try await attach(world, key) }
            #expect(try await world.remains() == [])
        }
        try await world.network.detach("never-seen")
        let path = "\(world.folder)/state/endpoints/x.json"
        try replaceFile(path, Array("{".utf8))
        await #expect(throws: HostNetworkError.self) { try await attach(world, "a") }
        unlink(path)
        // One of an earlier boot is nobody's.
        let a = try await attach(world, "a")
        let old = try readText("\(world.folder)/state/endpoints/a.json")
        try await world.network.detach("a")
        let boot = try readText("/proc/sys/kernel/random/boot_id").dropLast()
        let parts = old.split(separator: String(boot))
        try #require(parts.count == 2)
        try replaceFile(path, Array((parts[0] + "other-boot" + parts[1]).utf8))
        #expect(try network(world).isEmpty)
        withExtendedLifetime(a) {}
        try world.end()
    }
}
