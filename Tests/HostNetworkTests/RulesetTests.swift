import LinuxSystem
import Netlink
import Testing

@testable import HostNetwork

@Suite struct RulesetTests {
    static let pool = AddressPool(
        subnet: IPNetwork("10.213.0.0/16")!, prefix6: IPNetwork("fd12:3456:789a::/64")!)
    static let rules = Ruleset(
        table: "hull", bridge: "hull0", pool: pool, resolver: IPAddress("127.0.0.1"))
    static let endpoint = Endpoint(
        key: "k", name: "n", tap: "hull0t2", bridge: "hull0", mac: MACAddress("02:68:0a:d5:00:02")!,
        ipv4: IPNetwork("10.213.0.2/16")!, ipv6: IPNetwork("fd12:3456:789a::2/64")!,
        gateway4: pool.gateway4, gateway6: pool.gateway6, mtu: 1500,
        ports: [
            PublishedPort(hostPort: 8080, containerPort: 80),
            PublishedPort(hostAddress: .v4(0), hostPort: 53, containerPort: 53, transport: .udp),
            PublishedPort(hostAddress: .v6(0, 0), hostPort: 54, containerPort: 53, transport: .udp),
            PublishedPort(hostAddress: IPAddress("1.2.3.4"), hostPort: 1, containerPort: 2),
            PublishedPort(hostAddress: IPAddress("fd00::1"), hostPort: 3, containerPort: 4),
        ], resolver: GuestResolver())

    @Test func elementsOfAnEndpoint() {
        let base = Self.rules.ensuring([])
        let all = Self.rules.ensuring([Self.endpoint])
        #expect(all.hasPrefix(base))
        #expect(
            all.dropFirst(base.count) == """
                add element inet hull any4 { tcp . 8080 : 10.213.0.2 . 80 }
                add element inet hull any6 { tcp . 8080 : fd12:3456:789a::2 . 80 }
                add element inet hull any4 { udp . 53 : 10.213.0.2 . 53 }
                add element inet hull any6 { udp . 54 : fd12:3456:789a::2 . 53 }
                add element inet hull one4 { 1.2.3.4 . tcp . 1 : 10.213.0.2 . 2 }
                add element inet hull one6 { fd00::1 . tcp . 3 : fd12:3456:789a::2 . 4 }
                add chain bridge hull guest-hull0t2
                flush chain bridge hull guest-hull0t2
                add rule bridge hull guest-hull0t2 ether saddr != 02:68:0a:d5:00:02 drop
                add rule bridge hull guest-hull0t2 ether type arp arp saddr ether 02:68:0a:d5:00:02 arp saddr ip { 0.0.0.0, 10.213.0.2 } accept
                add rule bridge hull guest-hull0t2 ether type ip ip saddr 10.213.0.2 accept
                add rule bridge hull guest-hull0t2 ether type ip6 ip6 saddr != { ::, fe80::68:aff:fed5:2, fd12:3456:789a::2 } drop
                add rule bridge hull guest-hull0t2 ether type ip6 icmpv6 type nd-neighbor-advert @th,64,128 0xfe8000000000000000680afffed50002 accept
                add rule bridge hull guest-hull0t2 ether type ip6 icmpv6 type nd-neighbor-advert @th,64,128 0xfd123456789a00000000000000000002 accept
                add rule bridge hull guest-hull0t2 ether type ip6 icmpv6 type { nd-neighbor-advert, nd-router-advert, nd-redirect } drop
                add rule bridge hull guest-hull0t2 ether type ip6 accept
                add rule bridge hull guest-hull0t2 drop
                add element bridge hull guests { "hull0t2" : jump guest-hull0t2 }
                add element bridge hull returning { "hull0t2" . "hull0t2" . 02:68:0a:d5:00:02 }
                add element bridge hull reflected { "hull0t2" . "hull0t2" }

                """)
    }

    @Test func base() {
        #expect(
            Self.rules.ensuring([]) == """
                add table inet hull
                add table bridge hull
                add map inet hull any4 { type inet_proto . inet_service : ipv4_addr . inet_service ; }
                add map inet hull one4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service ; }
                add map inet hull any6 { type inet_proto . inet_service : ipv6_addr . inet_service ; }
                add map inet hull one6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service ; }
                add map bridge hull guests { type ifname : verdict ; }
                add set bridge hull returning { type ifname . ifname . ether_addr ; }
                add set bridge hull reflected { type ifname . ifname ; }
                add chain inet hull entering { type filter hook prerouting priority -300 ; policy accept ; }
                flush chain inet hull entering
                add rule inet hull entering iifname "hull0" ip daddr 127.0.0.0/8 drop
                add rule inet hull entering iifname "hull0" ip saddr 127.0.0.0/8 drop
                add chain inet hull publish
                flush chain inet hull publish
                add rule inet hull publish ip6 daddr ::1 return
                add rule inet hull publish dnat ip to ip daddr . meta l4proto . th dport map @one4
                add rule inet hull publish dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
                add rule inet hull publish fib daddr type local dnat ip to meta l4proto . th dport map @any4
                add rule inet hull publish fib daddr type local dnat ip6 to meta l4proto . th dport map @any6
                add chain inet hull arriving { type nat hook prerouting priority -100 ; policy accept ; }
                flush chain inet hull arriving
                add rule inet hull arriving iifname "hull0" ip daddr 10.213.0.1 meta l4proto { tcp, udp } th dport 53 dnat ip to 127.0.0.1
                add rule inet hull arriving jump publish
                add chain inet hull originating { type nat hook output priority -100 ; policy accept ; }
                flush chain inet hull originating
                add rule inet hull originating jump publish
                add chain inet hull receiving { type nat hook input priority 100 ; policy accept ; }
                flush chain inet hull receiving
                add rule inet hull receiving iifname "hull0" ip daddr 127.0.0.1 meta l4proto { tcp, udp } th dport 53 snat ip to 127.0.0.1
                add chain inet hull leaving { type nat hook postrouting priority 100 ; policy accept ; }
                flush chain inet hull leaving
                add rule inet hull leaving ip saddr 10.213.0.0/16 oifname != "hull0" masquerade
                add rule inet hull leaving oifname "hull0" ip saddr 127.0.0.0/8 masquerade
                add rule inet hull leaving ip saddr 10.213.0.0/16 ip daddr 10.213.0.0/16 ct status dnat masquerade
                add rule inet hull leaving ip6 saddr fd12:3456:789a::/64 oifname != "hull0" masquerade
                add rule inet hull leaving ip6 saddr fd12:3456:789a::/64 ip6 daddr fd12:3456:789a::/64 ct status dnat masquerade
                add chain inet hull forwarding { type filter hook forward priority 0 ; policy accept ; }
                flush chain inet hull forwarding
                add rule inet hull forwarding oifname != "hull0" accept
                add rule inet hull forwarding iifname "hull0" accept
                add rule inet hull forwarding ct state established,related accept
                add rule inet hull forwarding ct status dnat accept
                add rule inet hull forwarding drop
                add chain bridge hull entering { type filter hook prerouting priority -300 ; policy accept ; }
                flush chain bridge hull entering
                add rule bridge hull entering iifname vmap @guests
                add chain bridge hull crossing { type filter hook forward priority -300 ; policy accept ; }
                flush chain bridge hull crossing
                add rule bridge hull crossing iifname . oifname . ether daddr @returning accept
                add rule bridge hull crossing iifname . oifname @reflected drop

                """)
    }

    @Test func withoutIPv6AndResolver() {
        let rules = Ruleset(table: "t", bridge: "b", pool: AddressPool(subnet: Self.pool.subnet))
        var endpoint = Self.endpoint
        endpoint.ipv6 = nil
        let script = rules.ensuring([endpoint])
        #expect(
            !script.contains("ip6 saddr") && !script.contains("element inet t any6") && !script.contains("element inet t one6"))
        #expect(!script.contains("dport 53 dnat") && !script.contains("snat"))
    }

    /// nft takes each script on whatever is there: nothing, itself, a part of it.
    @Loop @Test func nftTakesThem() async throws {
        Loop.runInBackground()
        let firewall = Firewall(namespace: try NetworkNamespace.make())
        try await firewall.apply(Self.rules.ensuring([Self.endpoint]))
        let once = try await firewall.ask(["list", "ruleset"])
        try await firewall.apply(Self.rules.ensuring([Self.endpoint]))
        #expect(try await firewall.ask(["list", "ruleset"]) == once)
        try await firewall.apply(Self.rules.replacing([Self.endpoint]))
        #expect(try await firewall.ask(["list", "ruleset"]) == once)
        try await firewall.apply(Ruleset.removal(of: Self.endpoint, table: "hull"))
        let empty = try #require(try await firewall.ask(["list", "ruleset"]))
        #expect(!empty.contains("hull0t2") && !empty.contains("8080"))
        try await firewall.apply(Ruleset.removal(of: Self.endpoint, table: "hull"))
        #expect(try await firewall.ask(["list", "ruleset"]) == empty)
        try await firewall.apply(Ruleset.removal(table: "hull"))
        try await firewall.apply(Ruleset.removal(table: "hull"))
        #expect(try await firewall.ask(["list", "ruleset"]) == "")
        await #expect(throws: HostNetworkError.self) { try await firewall.apply("add nonsense\n") }
    }
}
