import Glibc
import LinuxSystem
import Netlink

@testable import HostNetwork

/// Small servers and clients that tell each other who they are.
@Loop
enum Traffic {
    /// Answers every TCP connection and UDP datagram at `address`:`port` with "NAME PEER", until cancelled.
    static func serve(
        _ name: String, in namespace: NetworkNamespace, _ address: String, _ port: UInt16
    ) throws -> Server {
        let address = IPAddress(address)!
        let tcp = try socket(in: namespace, address, SOCK_STREAM)
        var on: Int32 = 1
        setsockopt(tcp.raw, SOL_SOCKET, SO_REUSEADDR, &on, 4)
        try check(SocketAddress.bind(tcp.raw, address, port), "bind")
        try check(listen(tcp.raw, 16), "listen")
        let udp = try socket(in: namespace, address, SOCK_DGRAM)
        try check(SocketAddress.bind(udp.raw, address, port), "bind")
        return Server(tasks: [
            Task { @Loop in
                while let connection = try? await UnixSocket.accept(tcp) {  // ends when cancelled
                    let peer = peerName(connection)
                    _ = try? await writeAll(connection.raw, Array("\(name) \(peer)".utf8))  // the client may be gone
                }
            },
            Task { @Loop in
                var buffer = [UInt8](repeating: 0, count: 64)
                while (try? await readable(udp.raw)) != nil {  // ends when cancelled
                    var from = sockaddr_in6()
                    var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
                    withUnsafeMutablePointer(to: &from) {
                        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { from in
                            guard recvfrom(udp.raw, &buffer, 64, 0, from, &length) >= 0 else { return }
                            let answer = Array("\(name) \(Self.name(from))".utf8)
                            sendto(udp.raw, answer, answer.count, 0, from, length)
                        }
                    }
                }
            },
        ])
    }

    struct Server {
        let tasks: [Task<Void, Never>]
        func end() async {
            for task in tasks { task.cancel() }
            for task in tasks { await task.value }
        }
    }

    /// What the server there says; "refused", "unreachable" or "silence" when none does.
    static func ask(
        _ transport: TransportProtocol, from namespace: NetworkNamespace, _ address: IPAddress,
        _ port: UInt16, patience: Duration = .seconds(3), source: IPAddress? = nil
    ) async throws -> String {
        let socket = try socket(
            in: namespace, address, transport == .tcp ? SOCK_STREAM : SOCK_DGRAM)
        if let source { try check(SocketAddress.bind(socket.raw, source, 0), "bind") }
        do {
            return try await withDeadline(patience, awaiting: "an answer") {
                if connect(socket.raw, address, port) != 0 && errno != EINPROGRESS {
                    throw SystemError("connect")
                }
                try await writable(socket.raw)
                if transport == .udp {
                    try check(send(socket.raw, "?", 1, 0x4000 /* MSG_NOSIGNAL */) < 0 ? -1 : 0, "send")
                } else {
                    var failure: Int32 = 0
                    var length = socklen_t(4)
                    getsockopt(socket.raw, SOL_SOCKET, SO_ERROR, &failure, &length)
                    if failure != 0 { throw SystemError("connect", code: failure) }
                }
                return String(decoding: try await readSome(socket.raw), as: UTF8.self)
            }
        } catch is DeadlineError {
            return "silence"
        } catch let error as SystemError {
            switch error.code {
            case ECONNREFUSED: return "refused"
            case EHOSTUNREACH, ENETUNREACH: return "unreachable"
            default: throw error
            }
        }
    }

    static func socket(in namespace: NetworkNamespace, _ address: IPAddress, _ kind: __socket_type)
        throws -> SharedDescriptor
    {
        try namespace.inside {
            SharedDescriptor(
                owning: try checked("make a socket") {
                    Glibc.socket(
                        address.isIPv6 ? AF_INET6 : AF_INET, Int32(kind.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
                })
        }
    }

    private static func connect(_ socket: Int32, _ address: IPAddress, _ port: UInt16) -> Int32 {
        SocketAddress.withSockaddr(address, port) { pointer, length in
            Glibc.connect(socket, pointer.assumingMemoryBound(to: sockaddr.self), length)
        }
    }

    private static func check(_ result: Int32, _ operation: String) throws {
        if result < 0 { throw SystemError(operation) }
    }

    private static func peerName(_ socket: SharedDescriptor) -> String {
        var address = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        return withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getpeername(socket.raw, $0, &length)
                return name($0)
            }
        }
    }

    private nonisolated static func name(_ address: UnsafePointer<sockaddr>) -> String {
        let bytes = UnsafeRawBufferPointer(start: address, count: 28)
        let isIPv6 = address.pointee.sa_family == sa_family_t(AF_INET6)
        return IPAddress(bytes: isIPv6 ? bytes[8..<24] : bytes[4..<8])?.description ?? "nobody"
    }
}
