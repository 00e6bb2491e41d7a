import CLinux
import Glibc
public import LinuxSystem

/// Tells when something about the links, addresses or routes of a network namespace changed (rtnetlink(7)'s multicast groups).
public final class RouteWatch: Sendable {
    private let descriptor: SharedDescriptor

    /// Watches the namespace that the calling thread is in.
    public init() throws(SystemError) {
        let kind = Int32(SOCK_RAW.rawValue) | O_CLOEXEC | O_NONBLOCK
        descriptor = SharedDescriptor(owning: try checked("open a netlink socket") { socket(AF_NETLINK, kind, 0) })
        var address = sockaddr_nl()
        address.nl_family = sa_family_t(AF_NETLINK)
        // RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE.
        address.nl_groups = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
        let raw = descriptor.raw
        try checked("watch the network namespace") {
            withUnsafePointer(to: &address) { hull_bind(raw, $0, UInt32(MemoryLayout<sockaddr_nl>.size)) }
        }
    }

    /// Waits for a change, and for the silence of `pause` after it: who configures an interface does so in many steps.
    public func next(pause: Duration) async throws {
        try await readable(descriptor.raw)
        try await sleep(for: pause)
        var buffer = [UInt8](repeating: 0, count: 65536)
        // Messages that were lost (ENOBUFS) are changes too; what changed is looked up anew in any case.
        while recv(descriptor.raw, &buffer, buffer.count, 0) > 0 || errno == ENOBUFS {}
    }
}
