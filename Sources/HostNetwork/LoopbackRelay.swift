import CLinux
import Glibc
public import LinuxSystem
public import Netlink

/// Serves published ports at the host's `::1`. The kernel's translation cannot: it has no `route_localnet` for IPv6, and drops what
/// comes back to `::1` from another interface. So the socket that reserves the port also takes connections, and relays them to the
/// guest; what comes to any other address is led away by the rules before it gets there.
@Loop
public final class LoopbackRelay {
    /// A reserved socket that `::1` reaches, and where its bytes go.
    private struct Door {
        let socket: SharedDescriptor
        let port: UInt16
        let transport: TransportProtocol
    }

    /// Connections (TCP) served at a time, and senders of datagrams (UDP) for each port: more wait, or are dropped.
    fileprivate static let most = 256

    private let guest: Far
    private let doors: [Door]
    private var tasks: [Task<Void, Never>] = []
    private var connections: [Int: Task<Void, Never>] = [:]
    private var number = 0

    /// For the ports of `attachment`, which was made in `namespace` (nil: this process's); serves nothing where none is published
    /// at `::1`.
    public init(_ attachment: Attachment, in namespace: NetworkNamespace? = nil) {
        guest = Far(address: attachment.endpoint.ipv6?.address ?? attachment.endpoint.ipv4.address, namespace: namespace)
        doors = attachment.reservedPorts.filter(\.takesLoopback6).map {
            Door(socket: $0.socket, port: $0.port.containerPort, transport: $0.port.transport)
        }
    }

    /// Begins to serve. `SystemError` where a socket cannot listen.
    public func start() throws {
        for door in doors {
            switch door.transport {
            case .tcp:
                try checked("listen at a published port") { listen(door.socket.raw, 128) }
                tasks.append(Task { @Loop in await self.takeConnections(door) })
            case .udp:
                tasks.append(Task { @Loop in await DatagramRelay(door.socket, to: self.guest, door.port).run() })
            }
        }
    }

    /// Takes no more connections, and ends those that are open.
    public func stop() { (tasks + connections.values).forEach { $0.cancel() } }

    private func takeConnections(_ door: Door) async {
        while let client = try? await UnixSocket.accept(door.socket) {  // cancelled: the sandbox ends
            // The rest waits in the socket's queue.
            while connections.count >= Self.most { guard (try? await sleep(for: .milliseconds(20))) != nil else { return } }
            number += 1
            let mine = number
            connections[mine] = Task { @Loop in
                await self.relay(client, door.port)
                self.connections[mine] = nil
            }
        }
    }

    /// Both ways, until both have said their end. A guest that does not listen ends the connection, as it would by itself.
    private func relay(_ client: SharedDescriptor, _ port: UInt16) async {
        do {
            let server = try await guest.connect(port, SOCK_STREAM)
            let back = Task { @Loop in try await Self.copy(server, client) }
            try await withTaskCancellationHandler {
                try await Self.copy(client, server)
                try await back.value
            } onCancel: {
                back.cancel()
            }
        } catch {
            // Either side has gone, or the sandbox ends: closing both says so.
            _ = shutdown(client.raw, Int32(SHUT_RDWR))
        }
    }

    private static func copy(_ from: SharedDescriptor, _ to: SharedDescriptor) async throws {
        while true {
            let bytes = try await readSome(from.raw)
            if bytes.isEmpty { break }
            try await writeAll(to.raw, bytes)
        }
        _ = shutdown(to.raw, Int32(SHUT_WR))
    }
}

/// The guest, as the host reaches it.
private struct Far {
    let address: IPAddress
    let namespace: NetworkNamespace?

    /// A non-blocking socket that is connected to one of its ports.
    @Loop
    func connect(_ port: UInt16, _ kind: __socket_type) async throws -> SharedDescriptor {
        let make = {
            SharedDescriptor(
                owning: try checked("make a socket") {
                    socket(address.isIPv6 ? AF_INET6 : AF_INET, Int32(kind.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
                })
        }
        let made = try namespace?.inside(make) ?? make()
        if SocketAddress.withSockaddr(address, port, { hull_connect(made.raw, $0, $1) }) != 0 {
            guard errno == EINPROGRESS else { throw SystemError("connect to", "\(address)") }
            try await writable(made.raw)
            var failure: Int32 = 0
            var length = socklen_t(4)
            try checked("connect to", "\(address)") { getsockopt(made.raw, SOL_SOCKET, SO_ERROR, &failure, &length) }
            if failure != 0 { throw SystemError("connect to", "\(address)", code: failure) }
        }
        return made
    }
}

/// Relays datagrams: a socket of its own for every sender, so that answers find their way back.
@Loop
private final class DatagramRelay {
    private final class Sender {
        let socket: SharedDescriptor
        var last = ContinuousClock.now
        var answers: Task<Void, Never>?
        init(_ socket: SharedDescriptor) { self.socket = socket }
    }

    /// How long a silent sender is remembered: nf_conntrack's time for a stream of datagrams.
    private static let patience = Duration.seconds(120)

    private let door: SharedDescriptor
    private let guest: Far
    private let port: UInt16
    private var senders: [[UInt8]: Sender] = [:]

    init(_ door: SharedDescriptor, to guest: Far, _ port: UInt16) {
        self.door = door
        self.guest = guest
        self.port = port
    }

    func run() async {
        var buffer = [UInt8](repeating: 0, count: 65536)
        var address = [UInt8](repeating: 0, count: 128)
        while true {
            var length = UInt32(address.count)
            let got = hull_receive_from(door.raw, &buffer, buffer.count, &address, &length)
            if got >= 0 {
                await pass(Array(buffer[..<got]), from: Array(address[..<Int(min(length, 128))]))
            } else if errno == EAGAIN {
                guard (try? await readable(door.raw)) != nil else { break }  // cancelled: the sandbox ends
            }
            // Anything else is about an earlier answer that did not arrive: the next call is about the next datagram.
        }
        senders.values.forEach { $0.answers?.cancel() }
    }

    private func pass(_ datagram: [UInt8], from address: [UInt8]) async {
        if senders[address] == nil {
            forget()
            // Datagrams may be lost.
            guard senders.count < LoopbackRelay.most, let socket = try? await guest.connect(port, SOCK_DGRAM) else { return }
            let sender = Sender(socket)
            senders[address] = sender
            sender.answers = Task { @Loop in await self.answer(sender, to: address) }
        }
        guard let sender = senders[address] else { return }
        sender.last = ContinuousClock.now
        // A full buffer or a port that nobody has: lost, as on any wire.
        _ = datagram.withUnsafeBytes { send(sender.socket.raw, $0.baseAddress, $0.count, 0) }
    }

    private func answer(_ sender: Sender, to address: [UInt8]) async {
        while (try? await readable(sender.socket.raw)) != nil {  // cancelled: it is forgotten
            var buffer = [UInt8](repeating: 0, count: 65536)
            let got = recv(sender.socket.raw, &buffer, buffer.count, 0)
            guard got >= 0 else { continue }
            sender.last = ContinuousClock.now
            _ = address.withUnsafeBytes { hull_send_to(door.raw, buffer, got, $0.baseAddress, UInt32($0.count)) }
        }
    }

    /// Those that have been silent for long.
    private func forget() {
        for (address, sender) in senders where ContinuousClock.now - sender.last > Self.patience {
            sender.answers?.cancel()
            senders[address] = nil
        }
    }
}
