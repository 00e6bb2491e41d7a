import AgentProtocol
import Glibc
import LinuxSystem
import Machines
import Netlink

/// The interfaces that an engine put into the container's network namespace, each led to the machine: a tap beside it, and the
/// kernel's redirection of every frame between the two (tc-mirred(8)), so that no bridge and no copy is in the path. The monitor
/// lives in that namespace. A machine that cannot be given a NIC later has spares, which its guest keeps out of sight.
@Loop
final class NamespaceNetwork {
    /// One interface, and the tap that it is led to.
    private struct Port {
        var link: Link
        var nic: Int
    }

    /// A NIC of the machine.
    private struct Card {
        /// Its host's end; nil where the driver makes one, which comes here then.
        var tap: SharedDescriptor?
        var name: String
        var mac: MACAddress
        /// Whether the host's end is in the namespace.
        var isHere: Bool
    }

    private var ports: [Port] = []
    private var cards: [Card] = []
    /// What the guest was told last.
    private var told = Identity()
    private let routes: RouteSocket
    private let end: HypervisorTraits.NICEnd

    /// Takes the namespace that the calling thread is in, and brings its loopback up. The NICs' host ends are of that kind.
    init(_ end: HypervisorTraits.NICEnd) throws {
        self.end = end
        routes = try RouteSocket()
        if let loopback = try routes.link(named: "lo"), !loopback.isUp { try routes.change(loopback.index, up: true) }
    }

    /// Finds the interfaces, makes a tap for each, and `spares` more.
    func attach(spares: Int) async throws {
        for link in try owned() { try await connect(link, to: try makeCard(mac: link.mac!)) }
        for _ in 0..<spares { _ = try makeCard(mac: .random()) }
        // What a name server answers to what the namespace itself asked (an engine's resolver its upstream) comes back to ports of its
        // own, and is let through. All else at these ports is the guest's.
        try writeFile("/proc/sys/net/ipv4/ip_local_port_range", Array("61440 65535".utf8))
    }

    /// Leads the interfaces that came since to spares, before `configure`. False where the machine has too few.
    func connectNew() async throws -> Bool {
        for link in try owned() where !ports.contains(where: { $0.link.index == link.index }) {
            guard let spare else { return false }
            try await connect(link, to: spare)
        }
        return true
    }

    /// The machine's NICs.
    var nics: [NIC] {
        cards.enumerated().map { number, card in
            NIC(
                mac: "\(card.mac)",
                end: card.tap.map { .tap($0) } ?? .interface { [self] name in try await take(name, as: number) })
        }
    }

    /// Takes an interface that the driver made, in the first namespace of the host, as a NIC's host end; what was to be led to it is.
    private func take(_ name: String, as number: Int) async throws {
        let outside = try RouteSocket(in: NetworkNamespace(path: "/proc/1/ns/net"))
        let index = try outside.index(of: name)
        try outside.change(index, up: false)
        try outside.change(index, name: cards[number].name, namespace: NetworkNamespace.current())
        cards[number].isHere = true
        if let port = ports.first(where: { $0.nic == number }) { try await lead(port.link, to: number) }
    }

    /// What the guest is to make of them at its start; a clone has all its NICs out of sight.
    func configure(_ identity: inout Identity, isClone: Bool) throws {
        let now = try picture()
        identity.interfaces = now.interfaces
        identity.routes = now.routes
        told = now
        if isClone {
            for index in identity.interfaces.indices { identity.interfaces[index].spare = Self.spareName(ports[index].nic) }
            return
        }
        for (number, card) in cards.enumerated() {
            let port = ports.firstIndex { $0.nic == number }
            // Those that were there first have their interface's MAC already.
            if let port, ports[port].link.mac == card.mac { continue }
            var spare = InterfaceConfiguration()
            spare.mac = card.mac.bytes
            spare.spare = Self.spareName(number)
            identity.put.append(spare)
            if let port { identity.interfaces[port].spare = spare.spare }
        }
    }

    /// Compares with what is there now; what the guest has to change, or nil for nothing.
    func follow() async throws -> Identity? {
        let links = try candidates().filter(\.isUp)
        var change = Identity()
        for port in ports where !links.contains(where: { $0.index == port.link.index && $0.name == port.link.name }) {
            var gone = InterfaceConfiguration()
            gone.name = port.link.name
            gone.spare = Self.spareName(port.nic)
            change.put.append(gone)
            ports.removeAll { $0.nic == port.nic }
            // Its rules went with the other interface, or go now.
            try? await tc("qdisc del dev \(cards[port.nic].name) ingress\n")  // none is as good
        }
        for link in links where !ports.contains(where: { $0.link.index == link.index }) {
            guard let spare else {
                StandardStreams.complain("hull-runtime: the machine has no NIC left for \(link.name)")
                continue
            }
            try await connect(link, to: spare)
        }
        for index in ports.indices {
            if let link = links.first(where: { $0.index == ports[index].link.index }) { ports[index].link = link }
        }
        let now = try picture()
        change.interfaces = now.interfaces.filter { !told.interfaces.contains($0) }
        for index in change.interfaces.indices {
            let name = change.interfaces[index].name
            guard !told.interfaces.contains(where: { $0.name == name }), let port = ports.first(where: { $0.link.name == name })
            else { continue }
            change.interfaces[index].spare = Self.spareName(port.nic)
        }
        change.routes = told.routes.filter { !now.routes.contains($0) }.map { route in
            var gone = route
            gone.isGone = true
            return gone
        }
        change.routes += now.routes.filter { !told.routes.contains($0) }
        for index in change.interfaces.indices {
            let interface = change.interfaces[index]
            guard let before = told.interfaces.first(where: { $0.name == interface.name && $0.mac == interface.mac }) else {
                continue
            }
            let lost = before.addresses.filter { !interface.addresses.contains($0) }
            if lost.isEmpty { continue }
            // The guest takes it down for that, by which its kernel forgets the interface's routes.
            change.interfaces[index].dropped = lost
            change.routes.removeAll { $0.device == interface.name }
            change.routes += now.routes.filter { $0.device == interface.name }
        }
        told = now
        return change.put.isEmpty && change.interfaces.isEmpty && change.routes.isEmpty ? nil : change
    }

    /// What the guest knows of its interfaces, for a machine that is saved.
    var saved: SavedNetwork {
        SavedNetwork(
            cards: cards.indices.map { number in ports.first { $0.nic == number }?.link.name },
            interfaces: told.interfaces.map { .init(name: $0.name, mac: $0.mac, mtu: $0.mtu, addresses: $0.addresses) })
    }

    /// The same for a machine that was saved: it has the NICs that it had, each led to the interface of the name that it had then.
    func attach(_ saved: SavedNetwork) async throws {
        let links = try candidates().filter(\.isUp)
        for name in saved.cards { _ = try makeCard(mac: links.first { $0.name == name }?.mac ?? .random()) }
        var free = saved.cards.indices.filter { saved.cards[$0] == nil }[...]
        for link in links {
            guard let number = saved.cards.firstIndex(of: link.name) ?? free.popFirst() else {
                throw SandboxError("the saved machine has no NIC left for \(link.name)", exitCode: 1)
            }
            try await connect(link, to: number)
        }
        try writeFile("/proc/sys/net/ipv4/ip_local_port_range", Array("61440 65535".utf8))
    }

    /// What the guest of such a machine is to change. Addresses that it had and has no more go with their connections.
    func move(from saved: SavedNetwork, _ identity: inout Identity) throws {
        let now = try picture()
        for (number, name) in saved.cards.enumerated() {
            guard let name, !ports.contains(where: { $0.nic == number }) else { continue }
            var gone = InterfaceConfiguration()
            gone.name = name
            gone.spare = Self.spareName(number)
            identity.put.append(gone)
        }
        for var interface in now.interfaces {
            if let before = saved.interfaces.first(where: { $0.name == interface.name }) {
                if before.mac != interface.mac || before.addresses != interface.addresses { interface.dropped = before.addresses }
            } else if let port = ports.first(where: { $0.link.name == interface.name }) {
                interface.spare = Self.spareName(port.nic)
            }
            identity.interfaces.append(interface)
        }
        identity.routes = now.routes
        told = now
    }

    /// The addresses, for `ps` and `inspect`.
    func addresses() throws -> [String] {
        let all = try routes.addresses()
        return ports.flatMap { port in
            all.filter { $0.link == port.link.index && !$0.address.address.isLinkLocal }.map { "\($0.address.address)" }
        }
    }

    /// Takes the machine's taps away. They would go with their last holder, one after the other, which takes 20 ms each.
    func removeTaps() throws { if end == .tap { try routes.delete(group: Self.group) } }

    /// The taps' group.
    private static let group: UInt32 = 0x6875_6c6c

    /// Takes the redirection back: the namespace may outlive us.
    func detach() async {
        for port in ports {
            // A namespace that is being taken down has neither the interface nor the rules any more.
            try? await tc("qdisc del dev \(port.link.name) ingress\n")
        }
        ports = []
    }

    /// The name of a NIC while it is out of sight.
    nonisolated static func spareName(_ number: Int) -> String { "spare\(number)" }

    /// What could be a container's: neither a loopback nor one of our own. (A rootless engine's is a tap too: slirp4netns's.)
    private func candidates() throws -> [Link] {
        try routes.links().filter { link in link.mac?.isUnicast == true && !cards.contains { $0.name == link.name } }
    }

    // What is down and has no address belongs to nobody yet.
    private func owned() throws -> [Link] {
        let addresses = try routes.addresses()
        return try candidates().filter { link in link.isUp || addresses.contains { $0.link == link.index } }
    }

    /// A NIC that no interface is led to.
    private var spare: Int? { cards.indices.first { number in !ports.contains { $0.nic == number } } }

    private func makeCard(mac: MACAddress) throws -> Int {
        let name = "hull\(cards.count)"
        guard end == .tap else {
            cards.append(Card(name: name, mac: mac, isHere: false))
            return cards.count - 1
        }
        let tap = try Tap.open(name)
        try routes.change(try routes.index(of: name), group: Self.group)
        cards.append(Card(tap: tap, name: name, mac: mac, isHere: true))
        return cards.count - 1
    }

    private func connect(_ link: Link, to number: Int) async throws {
        if cards[number].isHere { try await lead(link, to: number) }
        ports.append(Port(link: link, nic: number))
    }

    private func lead(_ link: Link, to number: Int) async throws {
        let name = cards[number].name
        let index = try routes.index(of: name)
        // In this order: with an MTU below 1280 an interface has no IPv6 to be told of.
        try routes.change(index, noLinkLocal: true)
        try routes.change(index, up: true, mtu: link.mtu)
        if !link.isUp { try routes.change(link.index, up: true) }
        try await redirect(link.name, name)
        if !UserNamespace.isInitial {
            do { try await leadOwn(link, to: number) } catch {
                StandardStreams.complain("hull-runtime: ports that rootlessport publishes stay unreachable: \(error)")
            }
        }
    }

    /// The interfaces and routes, as the guest is to have them.
    private func picture() throws -> Identity {
        let addresses = try routes.addresses()
        let all = try routes.routes()
        var identity = Identity()
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
                if route.destination?.address == .v6(0xff00 << 48, 0) { continue }
                var wanted = RouteConfiguration()
                wanted.destination = route.destination.map { "\($0)" } ?? ""
                wanted.gateway = route.gateway.map { "\($0)" } ?? ""
                wanted.device = port.link.name
                identity.routes.append(wanted)
            }
        }
        return identity
    }

    private func redirect(_ link: String, _ tap: String) async throws {
        let own = { (header: String) in
            """
            filter add dev \(link) parent ffff: protocol ip prio 1 u32 match ip protocol \(header) 0xff match u16 0x0035 0xffff at 20 \
            match u16 0xf000 0xf000 at 22 match u16 0 0x1fff at 6 flowid :1

            """
        }
        let lines = """
            qdisc add dev \(link) ingress
            qdisc add dev \(tap) ingress
            \(own("17"))\(own("6"))filter add dev \(link) parent ffff: protocol arp prio 2 u32 match u32 0 0 flowid :1 action mirred egress mirror dev \(tap)
            filter add dev \(link) parent ffff: protocol all prio 9 u32 match u32 0 0 action mirred egress redirect dev \(tap)
            filter add dev \(tap) parent ffff: protocol all prio 9 u32 match u32 0 0 action mirred egress redirect dev \(link)

            """
        do { try await tc(lines) } catch {
            // A predecessor that was killed in the same namespace left its rules. The first line failed, and so nothing was done.
            try? await tc("qdisc del dev \(link) ingress\n")  // none is as good
            try await tc(lines)
        }
    }

    /// A rootless engine's port forwarder connects from inside the namespace to the namespace's own address, whose sockets are the
    /// guest's: that address is taken for the guest's here too, which answers to one that only this side has.
    private func leadOwn(_ link: Link, to number: Int) async throws {
        let tap = cards[number].name
        let own = "169.254.77.\(number + 1)"
        let addresses = try routes.addresses().filter { $0.link == link.index && Self.isV4($0.address.address) }.map {
            "\($0.address.address)"
        }
        guard !addresses.isEmpty else { return }
        var lines = "addr replace \(own)/32 dev \(tap)\n"
        for address in addresses {
            lines += """
                route del table local local \(address) dev \(link.name)
                route replace \(address)/32 dev \(tap) src \(own)
                neigh replace \(address) lladdr \(link.mac!) dev \(tap) nud permanent

                """
        }
        try await run("ip", lines)
        // The answers come from an address that an interface of this side has too.
        try writeFile("/proc/sys/net/ipv4/conf/\(tap)/accept_local", Array("1".utf8))
        // The guest's answers go to its gateway's MAC.
        try await tc(
            "filter add dev \(tap) parent ffff: protocol ip prio 1 u32 match ip dst \(own)/32 action skbedit ptype host\n")
    }

    private static func isV4(_ address: IPAddress) -> Bool { if case .v4 = address { true } else { false } }

    private func tc(_ lines: String) async throws { try await run("tc", lines) }

    /// iproute2's `ip` or `tc`, many lines at once.
    private func run(_ name: String, _ lines: String) async throws {
        guard let program = HostProgram.path(name) else {
            throw SandboxError("\(name) was not found, which networks need: apt-get install iproute2", exitCode: 1)
        }
        let output = try await Spawn(program, ["-batch", "-"]).run(input: Array(lines.utf8))
        guard output.status == .code(0) else {
            throw SandboxError("leading an interface to the machine failed: \(name): \(output.complaint)", exitCode: 1)
        }
    }
}

/// What the guest of a saved machine knows of its network.
struct SavedNetwork: Codable, Sendable {
    struct Interface: Codable, Sendable {
        var name: String
        var mac: [UInt8]
        var mtu: UInt32
        var addresses: [String]
    }

    /// The name of the interface that each NIC is; nil for a spare.
    var cards: [String?]
    var interfaces: [Interface]
}
