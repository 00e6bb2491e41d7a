public import LinuxSystem
public import Netlink

/// What a sandbox asks of the host's network.
public struct EndpointRequest: Codable, Hashable, Sendable {
    /// The sandbox's id: whoever asks again, or undoes, names it so.
    public var key: String
    /// The name a person knows it by, for error sentences.
    public var name: String
    public var ports: [PortRequest]
    /// Addresses to have again, where they are still free (a container that starts again, a clone).
    public var ipv4: IPAddress?
    public var mac: MACAddress?

    public init(
        key: String, name: String, ports: [PortRequest] = [], ipv4: IPAddress? = nil,
        mac: MACAddress? = nil
    ) {
        self.key = key
        self.name = name
        self.ports = ports
        self.ipv4 = ipv4
        self.mac = mac
    }
}

/// All that was made for a sandbox on the host's network; its record.
public struct Endpoint: Codable, Hashable, Sendable {
    public var key: String
    public var name: String
    /// The host's end: a tap, or an interface that got this name (`HostNetwork.connect`).
    public var tap: String
    public var bridge: String
    public var mac: MACAddress
    /// The guest's addresses with the prefix lengths of their networks; no IPv6 where the host has none.
    public var ipv4: IPNetwork
    public var ipv6: IPNetwork?
    /// The host's addresses on the bridge: the guest's default routes.
    public var gateway4: IPAddress
    public var gateway6: IPAddress?
    /// Bytes.
    public var mtu: UInt32
    public var ports: [PublishedPort]
    /// What the guest's resolv.conf says, unless the user says otherwise: see `GuestResolver.overridden`.
    public var resolver: GuestResolver
}

/// An endpoint that is there, and the descriptors that must stay open as long as it is used.
public struct Attachment: Sendable {
    public var endpoint: Endpoint
    /// The open tap (IFF_VNET_HDR), for the VMM. The kernel removes the tap when the last copy is closed. Nil where none was asked for.
    public var tap: SharedDescriptor?
    /// What keeps other programs off the published ports. Hold it until the sandbox ends; `LoopbackRelay` serves on it.
    public var reservedPorts: [ReservedPort]
}

/// An attachment whose tap is there, and whose way into the network is still being made, under the network's lock.
public struct BegunAttachment: Sendable {
    public let attachment: Attachment
    let connecting: Task<Void, any Error>

    /// Waits until it leads into the network. Where that failed, the endpoint is undone, and this throws why, a `HostNetworkError`. To be
    /// waited for before anybody behind it counts on the network.
    public func connected() async throws {
        do { try await connecting.value } catch let error as HostNetworkError { throw error } catch {
            throw HostNetworkError(.state, "attach \(attachment.endpoint.name) to the network", cause: error)
        }
    }
}

/// A socket that is bound to a published port, on one of the addresses that its request names.
public struct ReservedPort: Sendable {
    public var port: PublishedPort
    /// The address it is bound to; unspecified for all of its family.
    public var address: IPAddress
    public var socket: SharedDescriptor

    /// Whether what is sent to `::1` arrives here.
    var takesLoopback6: Bool { address == .v6(0, 0) || address == .v6(0, 1) }
}
