import LinuxSystem
import Netlink

extension HostNetwork {
    /// Takes away all that the key's endpoint made; unknown keys are fine. With the last endpoint everything goes: bridge,
    /// tables, rules among other firewalls' (the kernel stays a router, see docs).
    @Loop
    public func detach(_ key: String) async throws {
        guard exists(configuration.stateDirectory) else { return }
        try records.prepare()
        let lock = try await records.lock()
        defer { withExtendedLifetime(lock) {} }
        let all = try records.endpoints()
        guard let endpoint = all.first(where: { $0.key == key }) else {
            try records.remove(key)  // one of an earlier boot
            return
        }
        try await undo(endpoint, others: all.filter { $0.key != key })
    }

    /// Undoes an endpoint; its record goes last, so that it can be undone again.
    @Loop
    func undo(_ endpoint: Endpoint, others: [Endpoint]) async throws {
        let routes = try RouteSocket(in: namespace)
        try routes.delete(named: endpoint.tap)
        let firewall = Firewall(namespace: namespace)
        if others.isEmpty {
            try await ForeignFirewall(bridge: configuration.bridge, namespace: namespace).close()
            try await firewall.apply(Ruleset.removal(table: configuration.table))
            if try routes.link(named: configuration.bridge)?.kind == "bridge" {
                try routes.delete(named: configuration.bridge)
            }
        } else {
            do {
                try await firewall.apply(Ruleset.removal(of: endpoint, table: configuration.table))
            } catch is HostNetworkError {
                // The tables are gone, or hold something else under this name. The next attach makes them whole again.
            }
        }
        try records.remove(endpoint.key)
    }
}
