import Glibc
import LinuxSystem
import Netlink

@testable import HostNetwork

/// A little world of network namespaces: a host, the internet behind it, and guests behind real taps.
@Loop
final class World {
    let host: NetworkNamespace
    let internet: NetworkNamespace
    let network: HostNetwork
    let folder: String

    static let hostAddress = IPAddress("198.51.100.2")!
    static let hostAddress6 = IPAddress("2001:db8:1::2")!
    static let outside = IPAddress("198.51.100.1")!
    static let outside6 = IPAddress("2001:db8:1::1")!

    init(resolvConf: String = "nameserver 198.51.100.1\n", upstream: String? = nil) throws {
        host = try NetworkNamespace.make()
        internet = try NetworkNamespace.make()
        folder = "/tmp/hull-network-test-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        try makeDirectories(folder)
        try writeFile("\(folder)/resolv.conf", Array(resolvConf.utf8), flags: O_WRONLY | O_CREAT)
        if let upstream {
            try writeFile("\(folder)/upstream", Array(upstream.utf8), flags: O_WRONLY | O_CREAT)
        }
        var configuration = HostNetwork.Configuration(
            stateDirectory: "\(folder)/state", choiceFile: "\(folder)/choice.json")
        configuration.resolvConf = "\(folder)/resolv.conf"
        configuration.upstreamResolvConf = "\(folder)/upstream"
        network = HostNetwork(configuration, namespace: host)

        let here = try RouteSocket(in: host)
        let there = try RouteSocket(in: internet)
        try here.change(here.index(of: "lo"), up: true)
        try there.change(there.index(of: "lo"), up: true)
        try here.createVeth("eth0", peer: "wan", peerNamespace: internet)
        let eth0 = try here.index(of: "eth0")
        let wan = try there.index(of: "wan")
        try here.addAddress(IPNetwork(Self.hostAddress, prefixLength: 24)!, to: eth0)
        try here.addAddress(IPNetwork(Self.hostAddress6, prefixLength: 64)!, to: eth0)
        try there.addAddress(IPNetwork(Self.outside, prefixLength: 24)!, to: wan)
        try there.addAddress(IPNetwork(Self.outside6, prefixLength: 64)!, to: wan)
        try here.change(eth0, up: true)
        try there.change(wan, up: true)
        try here.addRoute(Route(defaultBy: Self.outside))
        try here.addRoute(Route(defaultBy: Self.outside6))
    }

    /// Attaches a guest and starts it.
    func guest(_ key: String, _ ports: String...) async throws -> Guest {
        let requests = try ports.flatMap { try PortRequest.parse($0) }
        let attachment = try await network.attach(
            EndpointRequest(key: key, name: "the-\(key)", ports: requests))
        return try Guest(attachment)
    }

    /// Runs nft in the host's namespace; its output.
    func nft(_ arguments: [String]) async throws -> String {
        try await Firewall(namespace: host).ask(arguments) ?? ""
    }

    /// Runs a program in the host's namespace.
    @discardableResult
    func run(_ program: String, _ arguments: [String]) async throws -> Output {
        var command = Spawn(program, arguments)
        command.networkNamespace = host.descriptor
        return try await command.run()
    }

    /// What of Hull's is there: nothing, after the last guest.
    func remains() async throws -> [String] {
        var found = try RouteSocket(in: host).links().map(\.name).filter { $0.hasPrefix("hull") }
        found += try await nft(["list", "ruleset"]).split(separator: "\n").filter { $0.contains("hull") }.map(String.init)
        found += try network.endpoints().map(\.key)
        return found
    }

    func end() throws { try removeTree(folder) }
}

/// A machine at the other end of a tap: a namespace whose `eth0` is a tap too, and a task that carries frames between them as
/// a VMM does.
@Loop
final class Guest {
    let endpoint: Endpoint
    let attachment: Attachment
    let namespace: NetworkNamespace
    private let relays: [Task<Void, Never>]
    private let own: SharedDescriptor

    init(_ attachment: Attachment) throws {
        self.attachment = attachment
        endpoint = attachment.endpoint
        namespace = try NetworkNamespace.make()
        let eth0 = try Tap.open("eth0", in: namespace)
        own = eth0
        let socket = try RouteSocket(in: namespace)
        try socket.change(socket.index(of: "lo"), up: true)
        let index = try socket.index(of: "eth0")
        try socket.change(index, mtu: endpoint.mtu, mac: endpoint.mac)
        try socket.change(index, up: true)
        try socket.addAddress(endpoint.ipv4, to: index)
        try socket.addRoute(Route(defaultBy: endpoint.gateway4))
        if let ipv6 = endpoint.ipv6, let gateway6 = endpoint.gateway6 {
            try socket.addAddress(ipv6, to: index)
            try socket.addRoute(Route(defaultBy: gateway6))
        }
        guard let tap = attachment.tap else { preconditionFailure("a tap was asked for") }
        relays = [(tap, eth0), (eth0, tap)].map { from, to in
            Task { @Loop in await Self.carry(from, to) }
        }
    }

    private static func carry(_ from: SharedDescriptor, _ to: SharedDescriptor) async {
        while !Task.isCancelled {
            guard let frame = try? await readSome(from.raw), !frame.isEmpty else { return }  // cancelled or gone
            _ = frame.withUnsafeBytes { write(to.raw, $0.baseAddress, $0.count) }
        }
    }

    /// Switches the machine off.
    func stop() async {
        for relay in relays { relay.cancel() }
        for relay in relays { await relay.value }
    }
}

/// Testing has an `Attachment` too.
typealias Attached = Attachment
