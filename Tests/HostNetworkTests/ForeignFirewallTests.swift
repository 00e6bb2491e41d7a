import Glibc
import LinuxSystem
import Netlink
import Testing

@testable import HostNetwork

/// Beside somebody else's rules that drop what is forwarded, as dockerd's do.
@Suite(.serialized) struct ForeignFirewallTests {
    init() { Loop.runInBackground() }

    enum Kind: String, CaseIterable {
        case nftWithDockerUser, nftForward, legacyWithDockerUser, legacyForward
        var program: String { rawValue.hasPrefix("legacy") ? "/usr/sbin/iptables-legacy" : "/usr/sbin/iptables-nft" }
        var program6: String { rawValue.hasPrefix("legacy") ? "/usr/sbin/ip6tables-legacy" : "/usr/sbin/ip6tables-nft" }
        var hasDockerUser: Bool { rawValue.hasSuffix("DockerUser") }
    }

    @Loop @Test(arguments: Kind.allCases)
    func trafficPassesAndRulesGo(kind: Kind) async throws {
        guard exists(kind.program) else {
            print("skipped: \(kind.program) is missing; install iptables")
            return
        }
        let world = try World()
        for program in [kind.program, kind.program6] {
            var rules = [["-P", "FORWARD", "DROP"]]
            if kind.hasDockerUser {
                rules += [
                    ["-N", "DOCKER-USER"], ["-A", "DOCKER-USER", "-j", "RETURN"], ["-I", "FORWARD", "-j", "DOCKER-USER"],
                ]
            }
            for rule in rules {
                let output = try await world.run(program, rule)
                try #require(output.status.isSuccess, "\(output.complaint)")
            }
        }
        let before = try await world.run(kind.program, ["-S"]).standardOutput
        let before6 = try await world.run(kind.program6, ["-S"]).standardOutput
        let outside = try Traffic.serve("outside", in: world.internet, "0.0.0.0", 7000)
        let outside6 = try Traffic.serve("outside6", in: world.internet, "::", 7001)
        let a = try await world.guest("a", "8080:80")
        let b = try await world.guest("b")
        let atA = try Traffic.serve("a", in: a.namespace, "0.0.0.0", 80)
        #expect(try await Traffic.ask(.tcp, from: a.namespace, World.outside, 7000) == "outside 198.51.100.2")
        #expect(try await Traffic.ask(.tcp, from: a.namespace, World.outside6, 7001) == "outside6 2001:db8:1::2")
        #expect(try await Traffic.ask(.tcp, from: world.internet, World.hostAddress, 8080) == "a 198.51.100.1")
        #expect(try await Traffic.ask(.tcp, from: b.namespace, a.endpoint.ipv4.address, 80).hasPrefix("a "))
        #expect(try await Traffic.ask(.tcp, from: b.namespace, World.hostAddress, 8080).hasPrefix("a "))
        // Two rules, however many guests, and readable by the one whose chain it is.
        let during = try await world.run(kind.program, ["-S", kind.hasDockerUser ? "DOCKER-USER" : "FORWARD"])
        let text = String(decoding: during.standardOutput, as: UTF8.self)
        #expect(text.split(separator: "\n").filter { $0.contains("hull0") }.count == 2, "\(text) \(during.complaint)")
        // Our accepting does not open what the bridge's own rules close.
        let there = try RouteSocket(in: world.internet)
        try there.addRoute(Route(to: a.endpoint.ipv4.network, gateway: World.hostAddress))
        #expect(
            try await Traffic.ask(.tcp, from: world.internet, a.endpoint.ipv4.address, 80, patience: .milliseconds(400))
                == "silence")
        for server in [outside, outside6, atA] { await server.end() }
        await a.stop()
        await b.stop()
        try await world.network.detach("a")
        try await world.network.detach("b")
        #expect(try await world.run(kind.program, ["-S"]).standardOutput == before)
        #expect(try await world.run(kind.program6, ["-S"]).standardOutput == before6)
        #expect(try await world.remains() == [])
        try world.end()
    }
}
