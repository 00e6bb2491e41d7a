import AgentProtocol
import FoundationEssentials
import HostNetwork
import Netlink

/// The files that Hull puts over an image's own, /etc/hosts, /etc/hostname, /etc/resolv.conf; and the one that it puts over the kernel's.
struct Guestfiles {
    var record: ContainerRecord
    var endpoint: Endpoint?

    var all: [FileConfiguration] {
        var files = [
            FileConfiguration(path: "/etc/hostname", content: Array("\(record.hostname)\n".utf8)),
            FileConfiguration(path: "/etc/hosts", content: Array(hosts.utf8)),
        ]
        // Without a network there is nobody to ask, and the image's own file does no harm.
        if endpoint != nil {
            files.append(FileConfiguration(path: "/etc/resolv.conf", content: Array(resolver.utf8)))
        }
        return files + boot
    }

    /// The boot id: drawn at each start, each restore and each fork. The kernel draws its own once, and a saved machine's copies would all have
    /// the same. A privileged container sees the kernel's: with a mount over a part of /proc, no user namespace in it could mount one of its own
    /// (mount_too_revealing in fs/namespace.c), and the others have such mounts in any case.
    var boot: [FileConfiguration] {
        if record.privileged { return [] }
        let isCovered = record.mounts.contains { $0.destination == "/proc" || $0.destination.hasPrefix("/proc/") }
        return isCovered
            ? []
            : [FileConfiguration(path: Self.bootPath, content: Array("\(UUID().uuidString.lowercased())\n".utf8), mode: 0o444)]
    }

    static let bootPath = "/proc/sys/kernel/random/boot_id"

    private var hosts: String {
        var lines = [
            "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "fe00::\tip6-localnet",
            "ff00::\tip6-mcastprefix",
            "ff02::1\tip6-allnodes", "ff02::2\tip6-allrouters",
        ]
        for entry in record.network.extraHosts {
            guard let colon = entry.firstIndex(of: ":") else { continue }
            var address = String(entry[entry.index(after: colon)...])
            if address == "host-gateway", let gateway = endpoint?.gateway4 { address = "\(gateway)" }
            lines.append("\(address)\t\(entry[..<colon])")
        }
        if let endpoint { lines.append("\(endpoint.ipv4.address)\t\(record.hostname)") }
        return lines.map { "\($0)\n" }.joined()
    }

    private var resolver: String {
        guard let endpoint else { return "" }
        return endpoint.resolver.overridden(
            nameservers: record.network.dns.compactMap { IPAddress($0) },
            search: record.network.dnsSearch, options: record.network.dnsOptions
        ).text
    }
}
