import AgentProtocol
import HostNetwork
import Netlink

/// The files that Hull puts over an image's own: /etc/hosts, /etc/hostname, /etc/resolv.conf.
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
        return files
    }

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
