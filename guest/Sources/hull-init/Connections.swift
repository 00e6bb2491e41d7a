import AgentProtocol
import CGuest

/// TCP connections of the guest, by the kernel's socket diagnosis (sock_diag(7)).
enum Connections {
    /// Breaks every connection from one of the addresses. Their interface should be down: the other end is to hear nothing of it.
    static func reset(from addresses: [String]) {
        let wanted = addresses.compactMap { Address($0)?.bytes }
        guard !wanted.isEmpty else { return }
        let raw = guest_netlink_socket(4 /* NETLINK_SOCK_DIAG */, 0)
        guard raw >= 0 else { return console("connections cannot be reset: \(KernelError(-raw).words)") }
        let socket = Descriptor(owning: raw)
        for family in [UInt8(AF_INET), UInt8(AF_INET6)] {
            for id in list(family, socket) where wanted.contains(source(id, family)) {
                var message = NetlinkMessage(21 /* SOCK_DESTROY */, flags: 0)
                message.put(question(family))
                message.put(id)
                do throws(KernelError) { try message.exchange(socket.number) } catch {
                    if error.number != ENOENT { console("a connection cannot be reset: \(error.words)") }
                }
            }
        }
    }

    /// struct inet_diag_req_v2 before the socket's id: family, protocol, extensions, states (all but listening).
    private static func question(_ family: UInt8) -> [UInt8] { [family, UInt8(IPPROTO_TCP), 0, 0, 0xFF, 0x0B, 0, 0] }

    /// The ids (struct inet_diag_sockid) of the family's connections.
    private static func list(_ family: UInt8, _ socket: borrowing Descriptor) -> [[UInt8]] {
        var message = NetlinkMessage(20 /* SOCK_DIAG_BY_FAMILY */, flags: 0x300 /* NLM_F_DUMP */)
        message.put(question(family))
        message.put([UInt8](repeating: 0, count: 48))
        guard message.send(socket.number) else { return [] }
        var ids: [[UInt8]] = []
        var answer = [UInt8](repeating: 0, count: 32768)
        while true {
            let got = recv(socket.number, &answer, answer.count, 0)
            guard got >= 16 else { return ids }
            var start = 0
            while start + 16 <= got {
                let length = Int(answer[start]) | Int(answer[start + 1]) << 8 | Int(answer[start + 2]) << 16
                // The end of the list, or an error, which is its end as well.
                guard answer[start + 4] == 20, length >= 16 + 72, start + length <= got else { return ids }
                ids.append(Array(answer[(start + 20)..<(start + 68)]))
                start += (length + 3) & ~3
            }
        }
    }

    /// The address that a connection is from; of IPv4 also where the socket is one of IPv6.
    private static func source(_ id: [UInt8], _ family: UInt8) -> [UInt8] {
        if family == UInt8(AF_INET) { return Array(id[4..<8]) }
        let isMapped = id[4..<14].allSatisfy { $0 == 0 } && id[14] == 0xFF && id[15] == 0xFF
        return Array(id[(isMapped ? 16 : 4)..<20])
    }
}
