import AgentProtocol
import CGuest

/// Interfaces that no container sees: in a network namespace of the agent's own, until the host has a use for them.
enum SpareInterfaces {
    /// That namespace, once it was needed, and the guest's.
    nonisolated(unsafe) private static var away: Int32 = -1
    nonisolated(unsafe) private static var home: Int32 = -1

    private static func open() {
        if away >= 0 { return }
        home = guest_open("/proc/self/ns/net", O_RDONLY, 0)
        if home >= 0, unshare(Int32(CLONE_NEWNET)) == 0 {
            away = guest_open("/proc/self/ns/net", O_RDONLY, 0)
            _ = guest_setns(home, Int32(CLONE_NEWNET))
        }
    }

    /// Puts an interface away, under its name there; its addresses and routes end with that.
    static func put(_ interface: InterfaceConfiguration, _ socket: borrowing Descriptor) throws(AgentFailure) {
        open()
        let found = interface.mac.isEmpty ? Network.index(of: interface.name) : Network.find(interface.mac)?.0
        guard let index = found else { return }
        try move(index, to: away, as: interface.spare, socket.number)
    }

    /// Brings one back.
    static func take(_ name: String) throws(AgentFailure) {
        open()
        _ = guest_setns(away, Int32(CLONE_NEWNET))
        let socket = guest_netlink_socket(NETLINK_ROUTE, 0)
        let index = name.withCString { if_nametoindex($0) }
        _ = guest_setns(home, Int32(CLONE_NEWNET))
        defer { close(socket) }
        if index != 0 { try move(index, to: home, as: name, socket) }
    }

    private static func move(_ index: UInt32, to place: Int32, as name: String, _ socket: Int32) throws(AgentFailure) {
        do throws(KernelError) {
            try Network.change(index, flags: 0, socket) { _ in }
            try Network.change(index, flags: nil, socket) {
                $0.attribute(UInt16(IFLA_IFNAME), Array(name.utf8) + [0])
                $0.attribute(28, UInt32(bitPattern: place))  // IFLA_NET_NS_FD
            }
        } catch {
            throw AgentFailure(.network, "moving \(name): \(error.words)", errno: error.number)
        }
    }
}
