import LinuxSystem

/// Kernel parameters of a network namespace. Which namespace /proc/sys/net shows is decided by the calling thread:
/// call these inside of it.
enum Sysctl {
    /// The value, trimmed; nil where the kernel has no such parameter.
    static func read(_ name: String) -> String? {
        guard let text = try? readText("/proc/sys/net/\(name)") else { return nil }  // not there is an answer
        return text.split(whereSeparator: \.isWhitespace).first.map(String.init)
    }

    /// Sets it, unless it is so already (/proc/sys may be read-only, and right).
    static func set(_ name: String, _ value: String) throws {
        if read(name) == value { return }
        do {
            try writeFile("/proc/sys/net/\(name)", Array(value.utf8))
        } catch {
            throw HostNetworkError(
                .unsupported,
                "set the kernel parameter net/\(name) to \(value): run as root where /proc/sys can be written",
                cause: error)
        }
    }

    /// Makes the namespace a router, once and for all: like Docker, Hull leaves it one, because nobody can know who else has come
    /// to rely on it meanwhile.
    static func forward(ipv6: Bool) throws {
        try set("ipv4/ip_forward", "1")
        guard ipv6, read("ipv6/conf/all/forwarding") != "1" else { return }
        // A router ignores advertisements unless told 2 (ip-sysctl.rst): without it the host would lose its own default route.
        for interface in try listDirectory("/proc/sys/net/ipv6/conf")
        where interface != "all" && read("ipv6/conf/\(interface)/accept_ra") == "1" {
            try set("ipv6/conf/\(interface)/accept_ra", "2")
        }
        try set("ipv6/conf/all/forwarding", "1")
    }

    /// Sets the bridge's own.
    static func prepare(bridge: String, ipv6: Bool) throws {
        // 127.0.0.1:port of the host reaches a guest, and a guest the resolver on the host's loopback, only by way of it.
        try set("ipv4/conf/\(bridge)/route_localnet", "1")
        if ipv6 {
            try set("ipv6/conf/\(bridge)/disable_ipv6", "0")
            // No guest is a router for the host.
            try set("ipv6/conf/\(bridge)/accept_ra", "0")
        }
    }

    static var hasIPv6: Bool { read("ipv6/conf/all/disable_ipv6") == "0" }
}
