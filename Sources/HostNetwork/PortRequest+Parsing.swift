import Netlink

extension PortRequest {
    /// Reads one `-p`: `[[ip:][hostPort]:]containerPort[/tcp|/udp]`, where both ports may be ranges of one length, and a range
    /// of host ports before a single container port means any of them (docs.docker.com, "Port publishing"). Throws `.badPort`.
    public static func parse(_ text: String) throws -> [PortRequest] {
        func bad(_ why: String) -> HostNetworkError {
            HostNetworkError(
                .badPort,
                "publish \"\(text)\": \(why); write [ip:][hostPort:]containerPort[/tcp|/udp]")
        }
        var rest = Substring(text)
        var transport = TransportProtocol.tcp
        if let slash = rest.lastIndex(of: "/") {
            let name = rest[rest.index(after: slash)...].lowercased()
            guard let known = TransportProtocol(rawValue: name) else {
                throw bad("\"\(name)\" is no protocol that can be published")
            }
            transport = known
            rest = rest[..<slash]
        }

        var address: IPAddress?
        var parts: [Substring]
        if rest.hasPrefix("[") {
            guard let close = rest.firstIndex(of: "]"),
                let parsed = IPAddress(rest[rest.index(after: rest.startIndex)..<close]), parsed.isIPv6,
                rest[rest.index(after: close)...].hasPrefix(":")
            else { throw bad("the address is no [IPv6] address") }
            address = parsed
            parts = rest[rest.index(close, offsetBy: 2)...]
                .split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2 else { throw bad("a container port is missing after the address") }
        } else {
            parts = rest.split(separator: ":", omittingEmptySubsequences: false)
            switch parts.count {
            case 1: parts.insert("", at: 0)
            case 2: break
            case 3:
                if !parts[0].isEmpty {
                    guard let parsed = IPAddress(parts[0]) else {
                        throw bad("\"\(parts[0])\" is no IP address")
                    }
                    address = parsed
                }
                parts.removeFirst()
            default: throw bad("it has too many colons (an IPv6 address stands in brackets)")
            }
        }

        if let address, address.isIPv6, address.isLoopback {
            throw bad("IPv6's loopback address cannot lead to a container, 127.0.0.1 can")
        }
        guard let container = range(parts[1]), container.lowerBound > 0 else {
            throw bad("\"\(parts[1])\" is no container port")
        }
        if parts[0].isEmpty || parts[0] == "0" {
            return container.map {
                PortRequest(hostAddress: address, containerPort: $0, transport: transport)
            }
        }
        guard let host = range(parts[0]), host.lowerBound > 0 else {
            throw bad("\"\(parts[0])\" is no host port")
        }
        if container.count == 1 {
            return [
                PortRequest(
                    hostAddress: address, hostPorts: host, containerPort: container.lowerBound,
                    transport: transport)
            ]
        }
        guard host.count == container.count else {
            throw bad("the ranges of host and container ports differ in length")
        }
        return zip(host, container).map {
            PortRequest(hostAddress: address, hostPorts: $0...$0, containerPort: $1, transport: transport)
        }
    }

    private static func range(_ text: Substring) -> ClosedRange<UInt16>? {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        let numbers = parts.compactMap { part in
            part.utf8.allSatisfy { (48...57).contains($0) } ? UInt16(part) : nil
        }
        guard numbers.count == parts.count else { return nil }
        switch numbers.count {
        case 1: return numbers[0]...numbers[0]
        case 2 where numbers[0] <= numbers[1]: return numbers[0]...numbers[1]
        default: return nil
        }
    }
}

extension PublishedPort: CustomStringConvertible {
    /// `0.0.0.0:8080->80/tcp`, as `ps` shows it.
    public var description: String {
        let host = hostAddress.map { $0.isIPv6 ? "[\($0)]" : "\($0)" } ?? "*"
        return "\(host):\(hostPort)->\(containerPort)/\(transport.rawValue)"
    }
}
