import Netlink

/// What the host's resolv.conf(5) says, and what follows from it for guests: pure.
struct HostResolver: Hashable, Sendable {
    var nameservers: [IPAddress] = []
    var search: [String] = []
    var options: [String] = []

    /// Reads a resolv.conf; what cannot be read in it is left out, as the C library does.
    init(_ text: String) {
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard let keyword = words.first, !keyword.hasPrefix("#"), !keyword.hasPrefix(";") else {
                continue
            }
            let values = words.dropFirst()
            switch keyword {
            case "nameserver":
                // A zone (fe80::1%eth0) has no meaning in a guest.
                if let value = values.first, let address = IPAddress(value) { nameservers.append(address) }
            case "search", "domain": search = values.map(String.init)
            case "options": options += values.map(String.init)
            default: break
            }
        }
        // "If no nameserver entries are present, the default is to use the name server on the local machine."
        if !text.split(whereSeparator: \.isNewline).contains(where: { $0.hasPrefix("nameserver") }) {
            nameservers = [.v4(0x7f00_0001)]
        }
    }

    /// Whether it names only systemd-resolved's stub, which answers nobody but the loopback interface: 127.0.0.53 is
    /// bound to the device `lo` (systemd-resolved.service(8)).
    var isStub: Bool {
        !nameservers.isEmpty && nameservers.allSatisfy { $0 == .v4(0x7f00_0035) || $0 == .v4(0x7f00_0036) }
    }

    /// What guests are told, and the loopback address to which the gateway's port 53 leads, if any has to.
    func forGuests(gateway: IPAddress) -> (resolver: GuestResolver, forward: IPAddress?) {
        var forward: IPAddress?
        var given: [IPAddress] = []
        for server in nameservers {
            if server.isLoopback || server.isUnspecified {
                // The one way there is for one of them. Resolvers on ::1 listen on 127.0.0.1 too.
                if forward == nil {
                    forward = server.isIPv6 || server.isUnspecified ? .v4(0x7f00_0001) : server
                    given.append(gateway)
                }
            } else if !server.isLinkLocal {
                given.append(server)
            }
        }
        return (
            GuestResolver(nameservers: given, search: search.filter { $0 != "." }, options: options),
            forward
        )
    }
}
