import Netlink
import Testing

@testable import HostNetwork

@Suite struct AddressPoolTests {
    let pool = AddressPool(subnet: IPNetwork("10.213.9.9/29")!, prefix6: IPNetwork("fd12:3456:789a::5/64")!)

    @Test func givesOutEachOnce() {
        var used: Set<IPAddress> = []
        var order: [String] = []
        while let next = pool.allocate(used: used) {
            used.insert(next)
            order.append(next.description)
        }
        // Not the network, not the gateway, not the broadcast address.
        #expect(order == ["10.213.9.10", "10.213.9.11", "10.213.9.12", "10.213.9.13", "10.213.9.14"])
        #expect(pool.gateway4.description == "10.213.9.9")
        #expect(pool.gateway6?.description == "fd12:3456:789a::1")
        #expect(pool.ipv6(for: IPAddress("10.213.9.12")!)?.description == "fd12:3456:789a::4")
    }

    @Test func goesOnAfterTheLast() {
        let last = IPAddress("10.213.9.14")!
        #expect(pool.allocate(used: [], last: IPAddress("10.213.9.11")!)?.description == "10.213.9.12")
        #expect(pool.allocate(used: [], last: last)?.description == "10.213.9.10")
        #expect(pool.allocate(used: [], last: IPAddress("192.168.0.1")!)?.description == "10.213.9.10")
        #expect(pool.allocate(used: [IPAddress("10.213.9.10")!], last: last)?.description == "10.213.9.11")
        #expect(pool.allocate(used: [], preferred: IPAddress("10.213.9.13")!)?.description == "10.213.9.13")
        for bad in ["10.213.9.8", "10.213.9.9", "10.213.9.15", "10.213.9.16", "fd12:3456:789a::4"] {
            #expect(pool.allocate(used: [], preferred: IPAddress(bad)!)?.description == "10.213.9.10")
        }
    }

    @Test func big() {
        let pool = AddressPool(subnet: IPNetwork("10.213.0.0/16")!)
        var used: Set<IPAddress> = []
        var last: IPAddress?
        for _ in 0..<65533 {
            last = pool.allocate(used: used, last: last)
            used.insert(last!)
        }
        #expect(used.count == 65533)
        #expect(pool.allocate(used: used) == nil)
        #expect(pool.gateway6 == nil)
    }

    @Test func choosesWhatCollidesWithNothing() {
        let candidates = ["10.213.0.0/16", "172.30.0.0/16"].map { IPNetwork($0)! }
        #expect(AddressPool.chooseSubnet(candidates, taken: [])! == candidates[0])
        #expect(AddressPool.chooseSubnet(candidates, taken: [IPNetwork("10.0.0.0/8")!])! == candidates[1])
        #expect(AddressPool.chooseSubnet(candidates, taken: [IPNetwork("10.213.5.5/32")!])! == candidates[1])
        #expect(AddressPool.chooseSubnet(candidates, taken: [IPNetwork("10.0.0.0/8")!, IPNetwork("172.16.0.0/12")!]) == nil)
        for _ in 0..<100 {
            let prefix = AddressPool.randomPrefix6()
            #expect(prefix.address.bytes[0] == 0xfd && prefix.network == prefix && prefix.prefixLength == 64)
        }
    }
}

@Suite struct HostResolverTests {
    let gateway = IPAddress("10.213.0.1")!

    @Test(
        arguments: [
            ("nameserver 1.1.1.1\nnameserver 2606:4700::1\n", ["1.1.1.1", "2606:4700::1"], nil),
            ("nameserver 127.0.0.53\noptions edns0\n", ["10.213.0.1"], "127.0.0.53"),
            ("nameserver 127.0.0.1\nnameserver 9.9.9.9\nnameserver 127.0.0.2", ["10.213.0.1", "9.9.9.9"], "127.0.0.1"),
            ("nameserver ::1\n", ["10.213.0.1"], "127.0.0.1"),
            ("nameserver 0.0.0.0\n", ["10.213.0.1"], "127.0.0.1"),
            ("nameserver fe80::1%eth0\nnameserver 8.8.8.8\n", ["8.8.8.8"], nil),
            ("nameserver fe80::1\nnameserver 8.8.8.8\n", ["8.8.8.8"], nil),
            ("# nothing\n; at all\n", ["10.213.0.1"], "127.0.0.1"),
            ("", ["10.213.0.1"], "127.0.0.1"),
            ("nameserver\nnameserver x\nnameserver\t4.4.4.4 # mine", ["4.4.4.4"], nil),
        ] as [(String, [String], String?)])
    func tellsGuests(text: String, servers: [String], forward: String?) {
        let answer = HostResolver(text).forGuests(gateway: gateway)
        #expect(answer.resolver.nameservers.map(\.description) == servers)
        #expect(answer.forward?.description == forward)
    }

    @Test func readsTheRest() {
        let resolver = HostResolver(
            "domain old.org\nsearch a.org b.org\noptions ndots:2 rotate\noptions edns0\nsortlist 1.2.3.4\nnameserver 127.0.0.53")
        #expect(resolver.search == ["a.org", "b.org"])
        #expect(resolver.options == ["ndots:2", "rotate", "edns0"])
        #expect(resolver.isStub)
        #expect(!HostResolver("nameserver 127.0.0.1").isStub)
        let guest = resolver.forGuests(gateway: gateway).resolver
        #expect(guest.text == "nameserver 10.213.0.1\nsearch a.org b.org\noptions ndots:2 rotate edns0\n")
        let other = guest.overridden(nameservers: [IPAddress("1.1.1.1")!], search: ["."], options: [])
        #expect(other.text == "nameserver 1.1.1.1\noptions ndots:2 rotate edns0\n")
    }
}

@Suite struct ForeignFirewallTextTests {
    @Test func findsChains() {
        let text = """
            table ip nat {
            	chain DOCKER {
            	}
            }
            table ip filter {
            	chain FORWARD {
            		type filter hook forward priority filter; policy drop;
            	}
            	chain DOCKER-USER {
            	}
            }
            table ip6 filter {
            	chain FORWARD {
            		type filter hook forward priority filter; policy accept;
            	}
            }
            table inet filter {
            	chain FORWARD {
            	}
            }
            """
        #expect(
            ForeignFirewall.forwardChains(text) == [
                .init(family: "ip", name: "DOCKER-USER"), .init(family: "ip6", name: "FORWARD"),
            ])
        #expect(ForeignFirewall.forwardChains(text, all: true).count == 3)
        #expect(ForeignFirewall.forwardChains("").isEmpty)
    }

    @Test func findsWhatDrops() {
        let hook = "\t\ttype filter hook forward priority filter; policy drop;\n\t}\n"
        let text =
            "table ip filter {\n\tchain FORWARD {\n\(hook)}\ntable inet mine {\n\tchain other {\n\t}\n\tchain fwd {\n\(hook)}\n"
            + "table inet hull {\n\tchain forwarding {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}\n}\n"
        #expect(ForeignFirewall.droppingChains(text) == ["inet mine fwd"])
        #expect(ForeignFirewall.droppingChains("").isEmpty)
    }

    @Test func findsHandles() {
        let text = """
            table ip filter {
            	chain DOCKER-USER { # handle 4
            		iifname "hull0" counter packets 0 bytes 0 accept comment "hull hull0" # handle 12
            		oifname "hull0" counter packets 0 bytes 0 accept comment "hull hull0" # handle 11
            		oifname "hull1" counter packets 0 bytes 0 accept comment "hull hull1" # handle 10
            		counter packets 0 bytes 0 return # handle 5
            	}
            }
            """
        #expect(ForeignFirewall.handles(text, mark: "hull hull0") == [12, 11])
    }
}
