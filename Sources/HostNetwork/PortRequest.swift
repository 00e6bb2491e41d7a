public import Netlink

/// What carries a published port. The raw value is nftables' and Docker's name.
public enum TransportProtocol: String, Codable, Hashable, Sendable {
    case tcp, udp
}

/// What `-p [ip:][hostPort]:containerPort[/proto]` asks for, one container port each (a range becomes several).
public struct PortRequest: Codable, Hashable, Sendable {
    /// The host's address to publish on; nil is every address, IPv4 and IPv6; an unspecified one every address of its family.
    public var hostAddress: IPAddress?
    /// The first of these that is free; nil is any.
    public var hostPorts: ClosedRange<UInt16>?
    public var containerPort: UInt16
    public var transport: TransportProtocol

    public init(
        hostAddress: IPAddress? = nil, hostPorts: ClosedRange<UInt16>? = nil, containerPort: UInt16,
        transport: TransportProtocol = .tcp
    ) {
        self.hostAddress = hostAddress
        self.hostPorts = hostPorts
        self.containerPort = containerPort
        self.transport = transport
    }
}

/// A port that is published.
public struct PublishedPort: Codable, Hashable, Sendable {
    /// As in the request.
    public var hostAddress: IPAddress?
    public var hostPort: UInt16
    public var containerPort: UInt16
    public var transport: TransportProtocol

    public init(
        hostAddress: IPAddress? = nil, hostPort: UInt16, containerPort: UInt16,
        transport: TransportProtocol = .tcp
    ) {
        self.hostAddress = hostAddress
        self.hostPort = hostPort
        self.containerPort = containerPort
        self.transport = transport
    }
}
