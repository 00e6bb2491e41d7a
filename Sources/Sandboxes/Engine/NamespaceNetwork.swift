import AgentProtocol
import Glibc
import LinuxSystem
import Machines
import Netlink

/// The interfaces that an engine put into the container's network namespace, each led to the machine: a tap beside it, and the
/// kernel's redirection of every frame between the two (tc-mirred(8)), so that no bridge and no copy is in the path. The monitor
/// lives in that namespace.
@Loop
final class NamespaceNetwork {
    /// One interface and its tap.
    struct Port {
        var link: Link
        var tap: SharedDescriptor
        var tapName: String
    }

    private(set) var ports: [Port] = []
    private let routes: RouteSocket

    /// Takes the namespace that the calling thread is in, and brings its loopback up.
    init() throws {
        routes = try RouteSocket()
        if let loopback = try routes.link(named: "lo"), !loopback.isUp { try routes.change(loopback.index, up: true) }
    }

    /// Finds the interfaces, and makes a tap for each. What is down and has no address belongs to nobody yet.
    func attach() async throws {
        let addresses = try routes.addresses()
        for link in try routes.links() {
            guard let mac = link.mac, mac.isUnicast, link.kind != "tun",
                link.isUp || addresses.contains(where: { $0.link == link.index })
            else { continue }
            let name = "hull\(link.index)"
            let tap = try Tap.open(name)
            let index = try routes.index(of: name)
            try routes.change(index, up: true, mtu: link.mtu, noLinkLocal: true)
            if !link.isUp { try routes.change(link.index, up: true) }
            try await redirect(link.name, name)
            ports.append(Port(link: link, tap: tap, tapName: name))
        }
        // What the namespace itself asks (an engine's resolver its upstream) comes back to ports of its own, which are let through.
        if !ports.isEmpty {
            try writeFile("/proc/sys/net/ipv4/ip_local_port_range", Array("61440 65535".utf8))
        }
    }

    /// The machine's NICs.
    var nics: [NIC] { ports.map { NIC(mac: "\($0.link.mac!)", tap: $0.tap) } }

    /// What the guest is to make of them.
    func configure(_ identity: inout Identity) throws {
        let addresses = try routes.addresses()
        let all = try routes.routes()
        for port in ports {
            var interface = InterfaceConfiguration()
            interface.mac = port.link.mac!.bytes
            interface.name = port.link.name
            interface.mtu = port.link.mtu
            interface.addresses = addresses.filter { $0.link == port.link.index && !$0.address.address.isLinkLocal }
                .map { "\($0.address)" }
            identity.interfaces.append(interface)
            // Those on the link first: gateways are found by them.
            let own = all.filter { $0.link == port.link.index && $0.destination?.address.isLinkLocal != true }
            for route in own.filter({ $0.gateway == nil }) + own.filter({ $0.gateway != nil }) {
                if route.destination == nil && route.gateway == nil { continue }
                var wanted = RouteConfiguration()
                wanted.destination = route.destination.map { "\($0)" } ?? ""
                wanted.gateway = route.gateway.map { "\($0)" } ?? ""
                wanted.device = port.link.name
                identity.routes.append(wanted)
            }
        }
    }

    /// The addresses, for `ps` and `inspect`.
    func addresses() throws -> [String] {
        let all = try routes.addresses()
        return ports.flatMap { port in
            all.filter { $0.link == port.link.index && !$0.address.address.isLinkLocal }.map { "\($0.address.address)" }
        }
    }

    /// Takes the redirection back: the namespace may outlive us.
    func detach() async {
        for port in ports {
            // A namespace that is being taken down has neither the interface nor the rules any more.
            try? await tc("qdisc del dev \(port.link.name) ingress\n")
        }
        ports = []
    }

    private func redirect(_ link: String, _ tap: String) async throws {
        // A predecessor that was killed in the same namespace left its rules.
        try? await tc("qdisc del dev \(link) ingress\n")  // none is as good
        let port = { (header: String) in
            """
            filter add dev \(link) parent ffff: protocol ip prio 1 u32 match ip protocol \(header) 0xff match u16 0xf000 0xf000 at 22 \
            match u16 0 0x1fff at 6 flowid :1\n
            """
        }
        try await tc(
            """
            qdisc add dev \(link) ingress
            qdisc add dev \(tap) ingress
            \(port("17"))\(port("6"))filter add dev \(link) parent ffff: protocol arp prio 2 u32 match u32 0 0 flowid :1 action mirred egress mirror dev \(tap)
            filter add dev \(link) parent ffff: protocol all prio 9 u32 match u32 0 0 action mirred egress redirect dev \(tap)
            filter add dev \(tap) parent ffff: protocol all prio 9 u32 match u32 0 0 action mirred egress redirect dev \(link)

            """)
    }

    private func tc(_ lines: String) async throws {
        let places: [String] = ["/usr/sbin/tc", "/sbin/tc", "/usr/bin/tc"]
        let program = places.first { access($0, X_OK) == 0 }
        guard let program else {
            throw SandboxError("tc was not found, which networks need: apt-get install iproute2", exitCode: 1)
        }
        let output = try await Spawn(program, ["-batch", "-"]).run(input: Array(lines.utf8))
        guard output.status == .code(0) else {
            throw SandboxError("leading an interface to the machine failed: tc: \(output.complaint)", exitCode: 1)
        }
    }
}
