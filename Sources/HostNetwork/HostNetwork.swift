import LinuxSystem
public import Netlink

/// The host's side of the default network: a bridge, taps, NAT, published ports and a way to the host's resolvers.
///
/// Records below `Configuration.stateDirectory` say what is there; a file lock makes every change whole. The first
/// endpoint makes bridge, tables and sysctls, the last one takes them away.
public struct HostNetwork: Sendable {
    /// Where and under which names.
    public struct Configuration: Codable, Hashable, Sendable {
        /// The bridge, at most 8 bytes: taps are named after it.
        public var bridge = "hull0"
        /// The nftables tables `inet NAME` and `bridge NAME`.
        public var table = "hull"
        /// Subnets to choose from: the first that collides with no route of the host.
        public var subnets: [IPNetwork] = ["10.213.0.0/16", "10.171.0.0/16", "172.30.0.0/16", "192.168.213.0/24"]
            .map { IPNetwork($0)! }
        public var ipv6 = true
        /// Endpoint records and the lock. Best on a tmpfs: nothing in it outlives a reboot.
        public var stateDirectory: String
        /// Where the choice of subnet and IPv6 prefix is kept.
        public var choiceFile: String
        /// The host's resolver configuration, and the one behind systemd-resolved's stub.
        public var resolvConf = "/etc/resolv.conf"
        public var upstreamResolvConf = "/run/systemd/resolve/resolv.conf"

        public init(stateDirectory: String, choiceFile: String) {
            self.stateDirectory = stateDirectory
            self.choiceFile = choiceFile
        }
    }

    public let configuration: Configuration
    /// Nil is the process's own.
    let namespace: NetworkNamespace?

    public init(_ configuration: Configuration, namespace: NetworkNamespace? = nil) {
        self.configuration = configuration
        self.namespace = namespace
    }

    /// The endpoints that were made and not yet detached: whose sandbox is gone must be `detach`ed.
    public func endpoints() throws -> [Endpoint] { try records.endpoints() }

    /// What of other programs' rules stands in the way of guests' traffic and is not Hull's to mend, each with its remedy.
    /// For `hull doctor`. Throws when nft is missing.
    @Loop
    public func findings() async throws -> [String] {
        let chains = try await Firewall(namespace: namespace).ask(["list", "chains"]) ?? ""
        return ForeignFirewall.droppingChains(chains).map {
            "the nftables chain \"\($0)\" drops what is forwarded: accept iifname and oifname \(configuration.bridge) in it"
        }
    }

    var records: NetworkRecords {
        NetworkRecords(directory: configuration.stateDirectory, choiceFile: configuration.choiceFile)
    }

    /// Runs `body` with the thread in the network's namespace.
    func inside<R>(_ body: () throws -> R) throws -> R {
        guard let namespace else { return try body() }
        return try namespace.inside(body)
    }
}
