import Glibc
import LinuxSystem
import Netlink

extension HostNetwork {
    /// Takes away all that the key's endpoint made; unknown keys are fine. With the last endpoint everything goes: bridge,
    /// tables, rules among other firewalls' (the kernel stays a router, see docs). While a VMM still runs its tap must stay (QEMU aborts where one
    /// that it resets is gone): with `tapStays` it is cut off, and goes with the last who has it open.
    @Loop
    public func detach(_ key: String, tapStays: Bool = false) async throws {
        guard exists(configuration.stateDirectory) else { return }
        try records.prepare()
        let lock = try await records.lock()
        defer { withExtendedLifetime(lock) {} }
        let all = try records.endpoints()
        guard let endpoint = all.first(where: { $0.key == key }) else {
            try records.remove(key)  // one of an earlier boot
            return
        }
        try await undo(endpoint, others: all.filter { $0.key != key }, tapStays: tapStays)
    }

    /// Undoes an endpoint; its record goes last, so that it can be undone again.
    @Loop
    func undo(_ endpoint: Endpoint, others: [Endpoint], tapStays: Bool = false) async throws {
        let routes = try RouteSocket(in: namespace)
        func cutOff() throws {
            guard tapStays else { return try routes.delete(named: endpoint.tap) }
            guard let tap = try routes.link(named: endpoint.tap) else { return }
            // Down first: off the bridge nothing stands between the guest and the host. And under a name that no endpoint gets.
            try routes.change(tap.index, up: false)
            try routes.change(tap.index, name: "\(configuration.bridge)x\(String(UInt32(tap.index), radix: 36))", master: 0)
        }
        let firewall = Firewall(namespace: namespace)
        if others.isEmpty {
            // Programs look for rules while the kernel waits for its grace periods.
            let foreign = ForeignFirewall(bridge: configuration.bridge, namespace: namespace)
            let closing = Task { @Loop in try await foreign.close() }
            await Task.yield()
            let tap = Result { try cutOff() }
            try await closing.value
            try tap.get()
            // Nobody is behind the bridge any more.
            let removal = Ruleset.removal(table: configuration.table)
            let removing = Task { @Loop in try await firewall.apply(removal) }
            await Task.yield()
            let bridge = Result {
                if try routes.link(named: configuration.bridge)?.kind == "bridge" {
                    try routes.delete(named: configuration.bridge)
                }
            }
            try await removing.value
            try bridge.get()
        } else {
            try cutOff()
            do {
                try await firewall.apply(Ruleset.removal(of: endpoint, table: configuration.table))
            } catch is HostNetworkError {
                // The tables are gone, or hold something else under this name. The next attach makes them whole again.
            }
        }
        try forgetDatagrams(endpoint, leaving: true)
        try records.remove(endpoint.key)
    }

    /// A sender of datagrams who began before the port was published, or goes on after it is not, must meet the rules anew.
    func forgetDatagrams(_ endpoint: Endpoint, leaving: Bool) throws {
        let ports = Set(endpoint.ports.filter { $0.transport == .udp }.map(\.hostPort))
        if ports.isEmpty { return }
        let guests = Set([endpoint.ipv4.address, endpoint.ipv6?.address].compactMap(\.self))
        do {
            try Conntrack(in: namespace).forgetDatagrams(to: ports, notAnsweredBy: guests, andTheirs: leaving)
        } catch let error as NetlinkError where error.code == EINVAL || error.code == EOPNOTSUPP {
            // A kernel without ctnetlink: such a sender waits until he has paused for half a minute.
        } catch let error as SystemError where error.code == EPROTONOSUPPORT {
            // The same.
        }
    }
}
