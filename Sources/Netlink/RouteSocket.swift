/// An rtnetlink(7) socket: links, addresses and routes of one network namespace. Its calls do not suspend: the kernel
/// answers at once.
public final class RouteSocket: Sendable {
    let connection: NetlinkConnection

    /// Opens a socket in `namespace`, or where the calling thread is. It stays in that namespace wherever it is used.
    public init(in namespace: NetworkNamespace? = nil) throws {
        connection = try NetlinkConnection(family: 0 /* NETLINK_ROUTE */, in: namespace)
    }
}
