import AgentProtocol
import CGuest

/// Interfaces, addresses and routes, by rtnetlink.
enum Network {
    /// Whether `lo` was brought up, and whether it still is for sure: a template's is, until something of a container's runs.
    nonisolated(unsafe) private static var broughtLoopback = false
    nonisolated(unsafe) static var trustsLoopback = true

    static func apply(_ identity: Identity) throws(AgentFailure) {
        let isLoopbackUp = broughtLoopback && trustsLoopback
        if isLoopbackUp, identity.put.isEmpty, identity.interfaces.isEmpty, identity.routes.isEmpty { return }
        let raw = guest_netlink_socket(NETLINK_ROUTE, 0)
        guard raw >= 0 else {
            throw AgentFailure(.network, "opening the kernel's network interface: \(KernelError(-raw).words)", errno: -raw)
        }
        let socket = Descriptor(owning: raw)
        if !isLoopbackUp { try bringUp(1, "lo", socket) }
        broughtLoopback = true
        for interface in identity.put { try SpareInterfaces.put(interface, socket) }
        for interface in identity.interfaces {
            if !interface.spare.utf8.isEmpty { try SpareInterfaces.take(interface.spare) }
            let present = interface.spare.utf8.isEmpty ? interface.name : interface.spare
            if !interface.dropped.isEmpty, let index = index(of: present) {
                try request("bringing down \(present)") { () throws(KernelError) in try change(index, flags: 0, socket) { _ in } }
                Connections.reset(from: interface.dropped)
                for address in interface.dropped { remove(address, index, socket.number) }
            }
            var found = find(interface.mac)
            if found == nil, let index = index(of: present), interface.mac.count == 6 {
                // A spare, or a clone's: the same interface, which is to have another address than the one the machine was booted with.
                _ = try? change(index, flags: 0, socket) { _ in }  // some drivers change it only while down; checked below
                try request("giving \(interface.name) the MAC address \(text(interface.mac))") { () throws(KernelError) in
                    try change(index, flags: nil, socket) { $0.attribute(UInt16(IFLA_ADDRESS), interface.mac) }
                }
                found = (index, present)
            }
            guard let (index, current) = found else {
                throw AgentFailure(.network, "no network interface of the guest has the MAC address \(text(interface.mac))")
            }
            if !interface.name.utf8.isEmpty, current != interface.name {
                _ = try? change(index, flags: 0, socket) { _ in }  // older kernels rename only what is down; checked below
                let name = Array(interface.name.utf8) + [0]
                try request("renaming \(current) to \(interface.name)") { () throws(KernelError) in
                    try change(index, flags: nil, socket) { $0.attribute(UInt16(IFLA_IFNAME), name) }
                }
            }
            let name = interface.name.utf8.isEmpty ? current : interface.name
            if interface.mtu != 0 {
                try request("setting the MTU of \(name) to \(interface.mtu)") { () throws(KernelError) in
                    try change(index, flags: nil, socket) { $0.attribute(UInt16(IFLA_MTU), interface.mtu) }
                }
            }
            try bringUp(index, name, socket)
            for address in interface.addresses { try add(address, index, name, socket) }
        }
        for route in identity.routes where route.isGone {
            // One that went with its interface is as good.
            do throws(AgentFailure) { try change(route, socket) } catch {}
        }
        for route in identity.routes where !route.isGone { try change(route, socket) }
    }

    static func request(_ what: String, _ body: () throws(KernelError) -> Void) throws(AgentFailure) {
        do throws(KernelError) { try body() } catch {
            throw AgentFailure(.network, "\(what): \(error.words)", errno: error.number)
        }
    }

    private static func bringUp(_ index: UInt32, _ name: String, _ socket: borrowing Descriptor) throws(AgentFailure) {
        let number = socket.number
        try request("bringing up \(name)") { () throws(KernelError) in
            try change(index, flags: UInt32(IFF_UP), number) { _ in }
        }
    }

    static func change(
        _ index: UInt32, flags: UInt32?, _ socket: borrowing Descriptor, _ attributes: (inout NetlinkMessage) -> Void
    ) throws(KernelError) {
        try change(index, flags: flags, socket.number, attributes)
    }

    static func change(
        _ index: UInt32, flags: UInt32?, _ socket: Int32, _ attributes: (inout NetlinkMessage) -> Void
    ) throws(KernelError) {
        var message = NetlinkMessage(UInt16(RTM_NEWLINK), flags: 0)
        message.put([0, 0, 0, 0])
        message.put(index)
        message.put(flags ?? 0)
        message.put(flags == nil ? 0 : UInt32(IFF_UP))
        attributes(&message)
        try message.exchange(socket)
    }

    static func index(of name: String) -> UInt32? {
        guard !name.utf8.isEmpty, !name.utf8.contains(47), name.utf8.first != 46 else { return nil }
        return TextFile.readNumber("/sys/class/net/\(name)/ifindex").map { UInt32(truncatingIfNeeded: $0) }
    }

    static func find(_ mac: [UInt8]) -> (UInt32, String)? {
        let wanted = text(mac)
        for name in Directory.names("/sys/class/net") where TextFile.readLine("/sys/class/net/\(name)/address") == wanted {
            guard let index = TextFile.readNumber("/sys/class/net/\(name)/ifindex") else { continue }
            return (UInt32(truncatingIfNeeded: index), name)
        }
        return nil
    }

    private static func text(_ mac: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var bytes: [UInt8] = []
        for byte in mac {
            if !bytes.isEmpty { bytes.append(58) }
            bytes.append(digits[Int(byte >> 4)])
            bytes.append(digits[Int(byte & 15)])
        }
        return Scan.text(bytes)
    }

    private static func add(_ address: String, _ index: UInt32, _ name: String, _ socket: borrowing Descriptor)
        throws(AgentFailure)
    {
        guard let parsed = Address(address) else {
            throw AgentFailure(.invalid, "\"\(address)\" is no address with a prefix length")
        }
        let number = socket.number
        try request("adding the address \(address) to \(name)") { () throws(KernelError) in
            var message = NetlinkMessage(UInt16(RTM_NEWADDR), flags: UInt16(NLM_F_CREATE | NLM_F_REPLACE))
            message.put([parsed.family, parsed.prefix, parsed.isIPv6 ? UInt8(IFA_F_NODAD) : 0, 0])
            message.put(index)
            message.attribute(UInt16(IFA_LOCAL), parsed.bytes)
            message.attribute(UInt16(IFA_ADDRESS), parsed.bytes)
            if !parsed.isIPv6, parsed.prefix < 31 { message.attribute(UInt16(IFA_BROADCAST), parsed.broadcast) }
            try message.exchange(number)
        }
    }

    /// One that is not there is as good.
    private static func remove(_ address: String, _ index: UInt32, _ socket: Int32) {
        guard let parsed = Address(address) else { return }
        var message = NetlinkMessage(UInt16(RTM_DELADDR), flags: 0)
        message.put([parsed.family, parsed.prefix, 0, 0])
        message.put(index)
        message.attribute(UInt16(IFA_LOCAL), parsed.bytes)
        _ = try? message.exchange(socket)  // as above
    }

    private static func change(_ route: RouteConfiguration, _ socket: borrowing Descriptor) throws(AgentFailure) {
        let gateway = route.gateway.utf8.isEmpty ? nil : Address(route.gateway)
        let destination = route.destination.utf8.isEmpty ? nil : Address(route.destination)
        guard gateway != nil || route.gateway.utf8.isEmpty, destination != nil || route.destination.utf8.isEmpty,
            let family = destination?.family ?? gateway?.family
        else { throw AgentFailure(.invalid, "the route \"\(route.destination)\" by \"\(route.gateway)\" makes no sense") }
        let index = route.device.withCString { if_nametoindex($0) }
        if !route.device.utf8.isEmpty, index == 0 {
            throw AgentFailure(.network, "the guest has no interface \"\(route.device)\" for a route")
        }
        let number = socket.number
        try request(
            "\(route.isGone ? "removing" : "adding") the route to \"\(route.destination)\" by \"\(route.gateway)\" on \"\(route.device)\""
        ) {
            () throws(KernelError) in
            var message = NetlinkMessage(
                UInt16(route.isGone ? RTM_DELROUTE : RTM_NEWROUTE), flags: route.isGone ? 0 : UInt16(NLM_F_CREATE | NLM_F_REPLACE)
            )
            let scope = gateway == nil ? UInt8(RT_SCOPE_LINK.rawValue) : UInt8(RT_SCOPE_UNIVERSE.rawValue)
            message.put([
                family, destination?.prefix ?? 0, 0, 0, UInt8(RT_TABLE_MAIN.rawValue), UInt8(RTPROT_BOOT), scope,
                UInt8(RTN_UNICAST),
            ])
            message.put(0)
            if let destination { message.attribute(UInt16(RTA_DST.rawValue), destination.bytes) }
            if let gateway { message.attribute(UInt16(RTA_GATEWAY.rawValue), gateway.bytes) }
            if index != 0 { message.attribute(UInt16(RTA_OIF.rawValue), index) }
            try message.exchange(number)
        }
    }
}

/// An address with its prefix length.
struct Address {
    let family: UInt8
    let bytes: [UInt8]
    let prefix: UInt8

    var isIPv6: Bool { bytes.count == 16 }

    /// Reads `ADDRESS[/PREFIX]`.
    init?(_ text: String) {
        let parts = Scan.split(text.utf8, 47)
        let isIPv6 = parts[0].contains(58)
        var room = [UInt8](repeating: 0, count: isIPv6 ? 16 : 4)
        let good = Scan.text(parts[0]).withCString { inet_pton(isIPv6 ? AF_INET6 : AF_INET, $0, &room) }
        guard good == 1, parts.count <= 2 else { return nil }
        family = UInt8(isIPv6 ? AF_INET6 : AF_INET)
        bytes = room
        let longest = UInt64(room.count * 8)
        guard let length = parts.count == 2 ? Scan.whole(Scan.text(parts[1])) : longest, length <= longest else { return nil }
        prefix = UInt8(length)
    }

    /// The network's last address (IPv4).
    var broadcast: [UInt8] {
        var value = bytes
        for bit in Int(prefix)..<32 { value[bit / 8] |= 0x80 >> UInt8(bit % 8) }
        return value
    }
}

/// One rtnetlink request.
struct NetlinkMessage {
    private var bytes: [UInt8] = []

    init(_ type: UInt16, flags: UInt16) {
        put(0)
        let all = flags | UInt16(NLM_F_REQUEST | NLM_F_ACK)
        put([UInt8(type & 255), UInt8(type >> 8), UInt8(all & 255), UInt8(all >> 8)])
        put(1)
        put(0)
    }

    mutating func put(_ value: UInt32) {
        for shift in 0..<4 { bytes.append(UInt8(truncatingIfNeeded: value >> UInt32(shift * 8))) }
    }

    mutating func put(_ values: [UInt8]) { bytes.append(contentsOf: values) }

    mutating func attribute(_ type: UInt16, _ value: [UInt8]) {
        let length = value.count + 4
        bytes.append(contentsOf: [UInt8(length & 255), UInt8(length >> 8), UInt8(type & 255), UInt8(type >> 8)])
        bytes.append(contentsOf: value)
        while bytes.count % 4 != 0 { bytes.append(0) }
    }

    mutating func attribute(_ type: UInt16, _ value: UInt32) {
        attribute(type, (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) })
    }

    /// Sends it; false with errno.
    func send(_ socket: Int32) -> Bool {
        var message = bytes
        for shift in 0..<4 { message[shift] = UInt8(truncatingIfNeeded: message.count >> (shift * 8)) }
        return message.withUnsafeBytes { CGuest.send(socket, $0.baseAddress, $0.count, 0) } >= 0
    }

    /// Sends it and waits for the kernel's verdict.
    func exchange(_ socket: Int32) throws(KernelError) {
        guard send(socket) else { throw KernelError(guest_errno()) }
        var answer = [UInt8](repeating: 0, count: 4096)
        let got = recv(socket, &answer, answer.count, 0)
        guard got >= 20, answer[4] == UInt8(NLMSG_ERROR) else { throw KernelError(got < 0 ? guest_errno() : EPROTO) }
        var error: UInt32 = 0
        for shift in 0..<4 { error |= UInt32(answer[16 + shift]) << UInt32(shift * 8) }
        let number = Int32(bitPattern: error)
        if number != 0 { throw KernelError(-number) }
    }
}
