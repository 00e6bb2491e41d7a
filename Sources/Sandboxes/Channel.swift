import FoundationEssentials
public import LinuxSystem

/// One connection between a verb and a monitor: JSON messages, each after its length (four bytes, little-endian), with
/// descriptors beside them (SCM_RIGHTS).
public final class Channel: Sendable {
    /// The longest message that is taken: arguments and environments are at most 2 MiB in Linux.
    static let limit = 8 << 20

    private let socket: SharedDescriptor

    /// Talks over a connected, non-blocking Unix socket.
    public init(_ socket: SharedDescriptor) { self.socket = socket }

    /// Sends one message, the descriptors with it.
    public func send<M: Encodable & Sendable>(_ message: M, descriptors: [Int32] = []) async throws {
        let body = try JSONEncoder().encode(message)
        let count = UInt32(body.count)
        let head = (0..<4).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
        try await socket.send(head + body, descriptors: descriptors)
    }

    /// Waits for the next message; nil at the end of the connection.
    public func receive<M: Decodable & Sendable>(_ type: M.Type) async throws -> (
        message: M, descriptors: [SharedDescriptor]
    )? {
        var descriptors: [SharedDescriptor] = []
        guard let head = try await exactly(4, &descriptors) else { return nil }
        let count = head.enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        guard count <= Self.limit else {
            throw SandboxError(
                "a message of \(count) bytes came over the monitor's socket; 8 MiB is the limit")
        }
        guard let body = try await exactly(count, &descriptors) else { return nil }
        return (try JSONDecoder().decode(type, from: Data(body)), descriptors)
    }

    private func exactly(_ count: Int, _ descriptors: inout [SharedDescriptor]) async throws
        -> [UInt8]?
    {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let (more, with) = try await socket.receive(capacity: min(count - bytes.count, 1 << 18))
            descriptors += with
            if more.isEmpty { return nil }
            bytes += more
        }
        return bytes
    }
}
