import ArgumentParser
import HostNetwork
import Netlink
import Sandboxes

struct NetworkOptions: ParsableArguments {
    @Option(name: [.customLong("network"), .customLong("net")], help: "none, or bridge (the default).") var network = "bridge"
    @Option(
        name: [.customShort("p", allowingJoined: true), .customLong("publish")],
        help: ArgumentHelp("Publish a port.", valueName: "[[ip:]host:]container[/udp]"))
    var publish: [String] = []
    @Flag(name: [.customShort("P"), .customLong("publish-all")], help: "Publish every port that the image exposes.")
    var publishAll = false
    @Option(name: [.customShort("h"), .long], help: "The container's hostname.") var hostname: String?
    @Option(name: .long, help: "A nameserver instead of the host's.") var dns: [String] = []
    @Option(name: .long, help: "A search domain.") var dnsSearch: [String] = []
    @Option(name: .long, help: "A resolver option.") var dnsOption: [String] = []
    @Option(name: .long, help: ArgumentHelp("A line for /etc/hosts.", valueName: "name:address")) var addHost: [String] = []

    func apply(to request: inout RunRequest) throws {
        switch network {
        case "none": request.network.mode = .none
        case "bridge", "default": request.network.mode = .bridge
        case "host":
            throw SandboxError(
                "--network host would put the machine's network beside the host's, which no machine can be: publish ports with -p"
            )
        default: throw SandboxError("unknown network \"\(network)\": none and bridge are known")
        }
        for text in publish { request.network.ports += try PortRequest.parse(text) }
        request.publishAll = publishAll
        request.hostname = hostname
        for address in dns where IPAddress(address) == nil {
            throw SandboxError("invalid --dns \"\(address)\": give an IPv4 or IPv6 address")
        }
        request.network.dns = dns
        request.network.dnsSearch = dnsSearch
        request.network.dnsOptions = dnsOption
        for entry in addHost {
            let pair = entry.split(separator: ":", maxSplits: 1).map(String.init)
            guard pair.count == 2, pair[1] == "host-gateway" || IPAddress(pair[1]) != nil else {
                throw SandboxError("invalid --add-host \"\(entry)\": write name:address, or name:host-gateway")
            }
        }
        request.network.extraHosts = addHost
    }
}
