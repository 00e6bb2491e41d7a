import AgentProtocol
import CGuest

/// Interfaces that no container sees: in a network namespace of the agent's own, until the host has a use for them.
enum SpareInterfaces {
    /// That namespace, once it was needed, and the guest's.
    nonisolated(unsafe) private static var away: Int32 = -1
    nonisolated(unsafe) private static var home: Int32 = -1

    private static func open() throws(AgentFailure) {
        if away >= 0 { return }
        home = guest_open("/proc/self/ns/net", O_RDONLY, 0)
        if home >= 0, unshare(Int32(CLONE_NEWNET)) == 0 {
            away = guest_open("/proc/self/ns/net", O_RDONLY, 0)
            _ = guest_setns(home, Int32(CLONE_NEWNET))
        }
        if away < 0 { throw AgentFailure(.network, "the guest's kernel gives no place for spare interfaces") }
    }

    /// Puts an interface away, under its name there; its addresses and routes end with that.
    static func put(_ interface: InterfaceConfiguration, _ socket: borrowing Descriptor) throws(AgentFailure) {
        try open()
        guard let index = interface.mac.isEmpty ? Network.index(of: interface.name) : Network.find(interface.mac)?.0 else {
            return
        }
        let place = UInt32(bitPattern: away)
        let name = Array(interface.spare.utf8) + [0]
        let number = socket.number
        try Network.request("putting \(interface.spare) away") { () throws(KernelError) in
            try Network.change(index, flags: 0, number) { _ in }
            try Network.change(index, flags: nil, number) { $0.attribute(UInt16(IFLA_IFNAME), name) }
            try Network.change(index, flags: nil, number) { $0.attribute(28, place) }  // IFLA_NET_NS_FD
        }
    }

    /// Brings one back.
    static func take(_ name: String) throws(AgentFailure) {
        try open()
        _ = guest_setns(away, Int32(CLONE_NEWNET))
        let raw = guest_netlink_socket(NETLINK_ROUTE, 0)
        let index = name.withCString { if_nametoindex($0) }
        _ = guest_setns(home, Int32(CLONE_NEWNET))
        guard raw >= 0 else {
            throw AgentFailure(.network, "opening the kernel's network interface: \(KernelError(-raw).words)", errno: -raw)
        }
        let socket = Descriptor(owning: raw)
        guard index != 0 else { return }
        let place = UInt32(bitPattern: home)
        let number = socket.number
        try Network.request("bringing \(name) back") { () throws(KernelError) in
            try Network.change(index, flags: nil, number) { $0.attribute(28, place) }  // IFLA_NET_NS_FD
        }
    }
}
