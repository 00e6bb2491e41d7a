import LinuxSystem
import Machines

/// What a share server and the one whom it serves agree upon at the beginning (QEMU's docs/interop/vhost-user.rst), said by us.
@Loop
struct ShareServerLink {
    /// Where the memory is to be for the server: any place will do that is not ours.
    static let base: UInt64 = 1 << 32
    private static let version: UInt64 = 1 << 32
    private static let extensions: UInt64 = 1 << 30
    private static let acknowledgements: UInt64 = 1 << 3
    /// A connection back to who is served (5), which may pass descriptors (10), and memory in slots that are told once (15).
    private static let unrepeatable: UInt64 = 1 << 5 | 1 << 10 | 1 << 15
    /// The queue for requests; the one before it is for urgent ones, of which there are none.
    private static let queue: UInt32 = 1

    private enum Request: UInt32 {
        case getFeatures = 1
        case setFeatures = 2
        case setOwner = 3
        case setMemory = 5
        case setRingSize = 8
        case setRingPlace = 9
        case setRingBase = 10
        case setKick = 12
        case setCall = 13
        case getExtensions = 15
        case setExtensions = 16
        case enableRing = 18
    }

    private let connection: SharedDescriptor
    init(_ connection: SharedDescriptor) { self.connection = connection }

    /// Gives the server the memory, whose first bytes are the queue's, and both events.
    func open(memory: SharedDescriptor, bytes: Int, kick: SharedDescriptor, call: SharedDescriptor) async throws {
        let offered = try await number(.getFeatures)
        guard offered & Self.version != 0, offered & Self.extensions != 0 else {
            throw MachineError(.refused, "the share server is too old: it knows neither virtio 1 nor vhost-user's extensions")
        }
        let extensions = try await number(.getExtensions)
        try await send(.setExtensions, [extensions & Self.acknowledgements])
        let answers = extensions & Self.acknowledgements != 0
        func set(_ request: Request, _ words: [UInt64], _ descriptor: SharedDescriptor? = nil) async throws {
            try await send(request, words, descriptor, isAnswered: answers)
            guard answers else { return }
            let code = try await answer(request)
            guard code == 0 else {
                throw MachineError(.refused, "the share server refused request \(request.rawValue) of vhost-user")
            }
        }
        try await set(.setOwner, [])
        try await set(.setFeatures, [Self.version | Self.extensions])
        // One region: where it is for the guest, its size, where it is for us, and where in the file.
        try await set(.setMemory, [1, Self.base, UInt64(bytes), Self.base, 0], memory)
        let index = UInt64(Self.queue)
        try await set(.setRingSize, [index | UInt64(FileQueue.size) << 32])
        try await set(.setRingBase, [index])
        // Table, used, available, and no log.
        try await set(
            .setRingPlace, [index, Self.base, Self.base + UInt64(FileQueue.used), Self.base + UInt64(FileQueue.available), 0])
        try await set(.setCall, [index], call)
        try await set(.setKick, [index], kick)
        try await set(.enableRing, [index | 1 << 32])
    }

    /// Agrees upon what QEMU does, whose awake/hull-awake.c leaves out the same. The rest QEMU says again at each start.
    func takeOver() async throws {
        _ = try await number(.getFeatures)
        try await send(.setExtensions, [try await number(.getExtensions) & ~Self.unrepeatable])
        try await send(.setOwner, [])
    }

    private func number(_ request: Request) async throws -> UInt64 {
        try await send(request, [])
        return try await answer(request)
    }

    private func send(_ request: Request, _ words: [UInt64], _ descriptor: SharedDescriptor? = nil, isAnswered: Bool = false)
        async throws
    {
        let payload = words.flatMap { Self.bytes($0) }
        // Version 1, and whether we want to hear of it.
        let head = Self.bytes(UInt64(request.rawValue) | (isAnswered ? 9 : 1) << 32) + Self.bytes(UInt64(payload.count)).prefix(4)
        try await connection.send(head + payload, descriptors: descriptor.map { [$0.raw] } ?? [])
        withExtendedLifetime(descriptor) {}
    }

    /// The number in the answer to a request.
    private func answer(_ request: Request) async throws -> UInt64 {
        var bytes: [UInt8] = []
        while bytes.count < 20 {
            let more = try await readSome(connection.raw, capacity: 20 - bytes.count)
            guard !more.isEmpty else { throw MachineError(.startFailed, "the share server ended while it was spoken to") }
            bytes += more
        }
        func number(_ range: Range<Int>) -> UInt64 { bytes[range].reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        guard number(0..<4) == UInt64(request.rawValue), number(4..<8) & 4 != 0, number(8..<12) == 8 else {
            throw MachineError(.refused, "the share server answered what nobody asked")
        }
        return number(12..<20)
    }

    private static func bytes(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) } }
}
