import CLinux
import Glibc
import LinuxSystem
import Netlink

/// Keeps other programs off a published port: sockets that are bound, so that the kernel refuses everybody else's bind as long
/// as they are open, and resets what the rules do not lead away. Only those at `::1` ever listen: see `LoopbackRelay`.
enum PortReservation {
    typealias Bound = (address: IPAddress, socket: SharedDescriptor)

    /// Binds the request's port, or a free one, on the addresses it names. Call it inside of the network namespace.
    /// Throws `.portInUse`, naming `owner(port)` where that knows who it is.
    static func reserve(
        _ request: PortRequest, ipv6: Bool, owner: (UInt16) -> String?
    ) throws -> (port: PublishedPort, sockets: [Bound]) {
        let addresses: [IPAddress] =
            request.hostAddress.map { [$0] } ?? (ipv6 ? [.v4(0), .v6(0, 0)] : [.v4(0)])
        func published(_ port: UInt16) -> PublishedPort {
            PublishedPort(
                hostAddress: request.hostAddress, hostPort: port, containerPort: request.containerPort,
                transport: request.transport)
        }

        guard let range = request.hostPorts else {
            // The kernel knows a free one for the first address; it may be taken on the second.
            for _ in 0..<64 {
                let first = try bind(addresses[0], 0, request.transport)
                guard let first else { continue }
                let port = try number(first.socket)
                let others = try addresses.dropFirst().compactMap { try bind($0, port, request.transport) }
                if others.count == addresses.count - 1 { return (published(port), [first] + others) }
            }
            throw HostNetworkError(
                .portInUse,
                "publish port \(request.containerPort)/\(request.transport.rawValue): the host has no free port left")
        }
        for port in range {
            let sockets = try addresses.compactMap { try bind($0, port, request.transport) }
            if sockets.count == addresses.count { return (published(port), sockets) }
        }
        let wanted = range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
        let place = request.hostAddress.map { $0.isIPv6 ? "[\($0)]:\(wanted)" : "\($0):\(wanted)" } ?? wanted
        let holder = range.count == 1 ? owner(range.lowerBound) : nil
        throw HostNetworkError(
            .portInUse,
            "publish \(place)/\(request.transport.rawValue): port is already allocated"
                + (holder.map { " to the container \($0)" } ?? "; another program of this host has it")
                + "; choose another host port, or end who has it")
    }

    /// A bound socket; nil when somebody has the port.
    private static func bind(_ address: IPAddress, _ port: UInt16, _ transport: TransportProtocol) throws -> Bound? {
        if let socket = try attempt(address, port, transport, reuse: false) { return (address, socket) }
        // Connections of a server that has just ended (TIME_WAIT) are nobody's claim: with SO_REUSEADDR only a listener is.
        return transport == .tcp ? try attempt(address, port, transport, reuse: true).map { (address, $0) } : nil
    }

    private static func attempt(
        _ address: IPAddress, _ port: UInt16, _ transport: TransportProtocol, reuse: Bool
    ) throws -> SharedDescriptor? {
        let kind = transport == .tcp ? SOCK_STREAM : SOCK_DGRAM
        let socket = SharedDescriptor(
            owning: try checked("make a socket") {
                Glibc.socket(address.isIPv6 ? AF_INET6 : AF_INET, Int32(kind.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
            })
        var on: Int32 = 1
        if address.isIPv6 {
            try checked("restrict a socket to IPv6") {
                setsockopt(socket.raw, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &on, 4)
            }
        }
        if reuse {
            try checked("reuse an address") { setsockopt(socket.raw, SOL_SOCKET, SO_REUSEADDR, &on, 4) }
        }
        if SocketAddress.bind(socket.raw, address, port) == 0 { return socket }
        switch errno {
        case EADDRINUSE: return nil
        case EADDRNOTAVAIL:
            throw HostNetworkError(
                .badPort, "publish on \(address): the host has no such address; see `ip address`")
        default: throw SystemError("bind port \(port)/\(transport.rawValue) of", "\(address)")
        }
    }

    private static func number(_ socket: SharedDescriptor) throws(SystemError) -> UInt16 {
        var storage = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        try checked("read a socket's address") {
            withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    getsockname(socket.raw, $0, &length)
                }
            }
        }
        return UInt16(bigEndian: storage.sin6_port)  // at the same place in sockaddr_in
    }
}

/// sockaddr_in and sockaddr_in6 (ip(7), ipv6(7)).
enum SocketAddress {
    static func bind(_ socket: Int32, _ address: IPAddress, _ port: UInt16) -> Int32 {
        withSockaddr(address, port) { hull_bind(socket, $0, $1) }
    }

    static func withSockaddr<R>(
        _ address: IPAddress, _ port: UInt16, _ body: (UnsafeRawPointer, UInt32) -> R
    ) -> R {
        if address.isIPv6 {
            var value = sockaddr_in6()
            value.sin6_family = sa_family_t(AF_INET6)
            value.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &value.sin6_addr) { $0.copyBytes(from: address.bytes) }
            return withUnsafeBytes(of: value) { body($0.baseAddress!, UInt32($0.count)) }
        }
        var value = sockaddr_in()
        value.sin_family = sa_family_t(AF_INET)
        value.sin_port = port.bigEndian
        withUnsafeMutableBytes(of: &value.sin_addr) { $0.copyBytes(from: address.bytes) }
        return withUnsafeBytes(of: value) { body($0.baseAddress!, UInt32($0.count)) }
    }
}
