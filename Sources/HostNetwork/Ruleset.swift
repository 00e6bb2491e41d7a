import Netlink

/// Hull's nftables tables, as scripts for `nft -f -`: pure (nft(8)).
///
/// `inet TABLE` translates and forwards; published ports are elements of its maps. `bridge TABLE` holds each guest to its
/// own addresses: one chain a tap. Every script is one transaction, and none fails because of what is there already or
/// is gone already.
struct Ruleset: Sendable {
    var table: String
    var bridge: String
    var pool: AddressPool
    /// The host's resolver on its loopback to which port 53 of the gateway leads.
    var resolver: IPAddress?

    /// Everything, whatever was there before.
    func replacing(_ endpoints: [Endpoint]) -> String {
        Self.removal(table: table) + ensuring(endpoints)
    }

    /// The tables and their rules, and the endpoints' elements. Elements of others stay.
    func ensuring(_ endpoints: [Endpoint]) -> String {
        var lines = base
        for endpoint in endpoints {
            lines += Self.published(endpoint, "add", table)
            lines += guarded(endpoint)
        }
        return lines.map { $0 + "\n" }.joined()
    }

    /// Takes one endpoint's elements and chain away. The tables must be there.
    static func removal(of endpoint: Endpoint, table: String) -> String {
        // An element that is added and deleted in one transaction is gone after it, wherever it was before.
        var lines = published(endpoint, "add", table) + published(endpoint, "delete", table)
        let chain = chain(endpoint)
        lines.append("add chain bridge \(table) \(chain)")
        lines += guards(endpoint, "add", table) + guards(endpoint, "delete", table)
        lines += [
            "flush chain bridge \(table) \(chain)",
            "delete chain bridge \(table) \(chain)",
        ]
        return lines.map { $0 + "\n" }.joined()
    }

    /// Takes both tables away.
    static func removal(table: String) -> String {
        ["inet", "bridge"].map { "add table \($0) \(table)\ndelete table \($0) \(table)\n" }.joined()
    }

    private static func chain(_ endpoint: Endpoint) -> String { "guest-\(endpoint.tap)" }

    private var base: [String] {
        var lines = ["add table inet \(table)", "add table bridge \(table)"]
        for (family, address) in [("4", "ipv4_addr"), ("6", "ipv6_addr")] {
            lines += [
                // Published on every address of the host's, and on one.
                "add map inet \(table) any\(family) { type inet_proto . inet_service : \(address) . inet_service ; }",
                "add map inet \(table) one\(family) "
                    + "{ type \(address) . inet_proto . inet_service : \(address) . inet_service ; }",
            ]
        }
        lines += [
            "add map bridge \(table) guests { type ifname : verdict ; }",
            "add set bridge \(table) returning { type ifname . ifname . ether_addr ; }",
            "add set bridge \(table) reflected { type ifname . ifname ; }",
        ]

        // Numbers, not names: nft 1.0.6 knows `dstnat` for some hooks only.
        lines += chain(
            "inet", "entering", "type filter hook prerouting priority -300",
            [
                // route_localnet lets the bridge carry the loopback's addresses: never the guests' way, only ours.
                "iifname \"\(bridge)\" ip daddr 127.0.0.0/8 drop",
                "iifname \"\(bridge)\" ip saddr 127.0.0.0/8 drop",
            ])
        lines += chain(
            "inet", "publish", nil,
            [
                // The kernel finds no route for an answer to ::1 that came by a bridge, and IPv6 has no route_localnet:
                // refused at once (the port is held, nobody listens), a client tries 127.0.0.1.
                "ip6 daddr ::1 return",
                "dnat ip to ip daddr . meta l4proto . th dport map @one4",
                "dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6",
                "fib daddr type local dnat ip to meta l4proto . th dport map @any4",
                "fib daddr type local dnat ip6 to meta l4proto . th dport map @any6",
            ])
        lines += chain(
            "inet", "arriving", "type nat hook prerouting priority -100",
            (resolver.map { resolver in
                ["iifname \"\(bridge)\" ip daddr \(pool.gateway4) meta l4proto { tcp, udp } th dport 53 dnat ip to \(resolver)"]
            } ?? []) + ["jump publish"])
        lines += chain("inet", "originating", "type nat hook output priority -100", ["jump publish"])
        lines += chain(
            "inet", "receiving", "type nat hook input priority 100",
            resolver.map { resolver in
                // To the resolver a guest is the host itself: it may answer nobody else.
                ["iifname \"\(bridge)\" ip daddr \(resolver) meta l4proto { tcp, udp } th dport 53 snat ip to 127.0.0.1"]
            } ?? [])
        var leaving = [
            "ip saddr \(pool.subnet) oifname != \"\(bridge)\" masquerade",
            // The host's own connections to a published port of its loopback.
            "oifname \"\(bridge)\" ip saddr 127.0.0.0/8 masquerade",
            // A guest's to a published port: the answer must come back this way.
            "ip saddr \(pool.subnet) ip daddr \(pool.subnet) ct status dnat masquerade",
        ]
        if let prefix = pool.prefix6 {
            leaving += [
                "ip6 saddr \(prefix) oifname != \"\(bridge)\" masquerade",
                "ip6 saddr \(prefix) ip6 daddr \(prefix) ct status dnat masquerade",
            ]
        }
        lines += chain("inet", "leaving", "type nat hook postrouting priority 100", leaving)
        lines += chain(
            "inet", "forwarding", "type filter hook forward priority 0",
            [
                // Into the bridge comes what answers, and what was published; out of it, everything.
                "oifname != \"\(bridge)\" accept",
                "iifname \"\(bridge)\" accept",
                "ct state established,related accept",
                "ct status dnat accept",
                "drop",
            ])
        lines += chain(
            "bridge", "entering", "type filter hook prerouting priority -300",
            [
                "iifname vmap @guests"
            ])
        // Of its own frames a guest gets back those only that lead to its own published port: no broadcast, no neighbour
        // discovery.
        lines += chain(
            "bridge", "crossing", "type filter hook forward priority -300",
            [
                "iifname . oifname . ether daddr @returning accept",
                "iifname . oifname @reflected drop",
            ])
        return lines
    }

    private func chain(_ family: String, _ name: String, _ hook: String?, _ rules: [String])
        -> [String]
    {
        let declaration = hook.map { " { \($0) ; policy accept ; }" } ?? ""
        return ["add chain \(family) \(table) \(name)\(declaration)", "flush chain \(family) \(table) \(name)"]
            + rules.map { "add rule \(family) \(table) \(name) \($0)" }
    }

    private static func published(_ endpoint: Endpoint, _ verb: String, _ table: String) -> [String] {
        endpoint.ports.flatMap { port -> [String] in
            let key = "\(port.transport.rawValue) . \(port.hostPort)"
            var lines: [String] = []
            func element(_ map: String, _ key: String, _ guest: IPAddress?) {
                guard let guest else { return }
                lines.append(
                    "\(verb) element inet \(table) \(map) { \(key) : \(guest) . \(port.containerPort) }")
            }
            switch port.hostAddress {
            case nil:
                element("any4", key, endpoint.ipv4.address)
                element("any6", key, endpoint.ipv6?.address)
            case let host? where host.isUnspecified:
                if host.isIPv6 {
                    element("any6", key, endpoint.ipv6?.address)
                } else {
                    element("any4", key, endpoint.ipv4.address)
                }
            case let host?:
                if host.isIPv6 {
                    element("one6", "\(host) . \(key)", endpoint.ipv6?.address)
                } else {
                    element("one4", "\(host) . \(key)", endpoint.ipv4.address)
                }
            }
            return lines
        }
    }

    /// A guest sends from its own addresses only, and tells its neighbours of no others.
    private func guarded(_ endpoint: Endpoint) -> [String] {
        let chain = Self.chain(endpoint)
        var rules = [
            "ether saddr != \(endpoint.mac) drop",
            "ether type arp arp saddr ether \(endpoint.mac) arp saddr ip { 0.0.0.0, \(endpoint.ipv4.address) } accept",
            "ether type ip ip saddr \(endpoint.ipv4.address) accept",
        ]
        if let address = endpoint.ipv6?.address {
            let own = [endpoint.mac.linkLocalAddress, address]
            rules.append("ether type ip6 ip6 saddr != { ::, \(own[0]), \(own[1]) } drop")
            // The target of an advertisement follows eight bytes into it (RFC 4861, section 4.4).
            rules += own.map {
                "ether type ip6 icmpv6 type nd-neighbor-advert @th,64,128 \(Self.hexadecimal($0)) accept"
            }
            rules += [
                "ether type ip6 icmpv6 type { nd-neighbor-advert, nd-router-advert, nd-redirect } drop",
                "ether type ip6 accept",
            ]
        }
        rules.append("drop")
        return self.chain("bridge", chain, nil, rules) + Self.guards(endpoint, "add", table)
    }

    private static func guards(_ endpoint: Endpoint, _ verb: String, _ table: String) -> [String] {
        let tap = "\"\(endpoint.tap)\""
        return [
            "\(verb) element bridge \(table) guests { \(tap) : jump \(chain(endpoint)) }",
            "\(verb) element bridge \(table) returning { \(tap) . \(tap) . \(endpoint.mac) }",
            "\(verb) element bridge \(table) reflected { \(tap) . \(tap) }",
        ]
    }

    private static func hexadecimal(_ address: IPAddress) -> String {
        "0x" + address.bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
