/// The tables of nf_tables (linux/netfilter/nf_tables.h) in a network namespace.
public enum FirewallTables {
    /// The names of those of one `family`: 2 for IPv4's, 10 for IPv6's (NFPROTO). `namespace` nil is where the calling thread is. Throws where the
    /// kernel has no such tables at all.
    public static func names(family: UInt8, in namespace: NetworkNamespace? = nil) throws -> [String] {
        let connection = try NetlinkConnection(family: 12 /* NETLINK_NETFILTER */, in: namespace)
        // NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE; a struct nfgenmsg; NFTA_TABLE_NAME.
        return try connection.dump("list the firewall's tables", 10 << 8 | 1, [family, 0, 0, 0]).compactMap { message in
            try NetlinkAttributes.decode(message.payload, from: 4)[1]?.zeroTerminated
        }
    }
}
