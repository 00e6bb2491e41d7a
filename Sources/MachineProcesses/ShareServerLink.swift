import LinuxSystem
import Machines

/// What a share server and the one whom it serves agree upon at the beginning (QEMU's docs/interop/vhost-user.rst), said by us.
@Loop
final class ShareServerLink {
    /// Where the memory is to be for the server: any place will do that is not ours.
    static let base: UInt64 = 1 << 32
    private static let version: UInt64 = 1 << 32
    private static let extensions: UInt64 = 1 << 30
    private static let features = version | extensions
    /// What a server is told before it is saved: all that it writes to memory is to be noted (VHOST_F_LOG_ALL).
    private static let logging: UInt64 = 1 << 26
    private static let acknowledgements: UInt64 = 1 << 3
    /// What it knows can be saved and restored.
    private static let states: UInt64 = 1 << 19
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
        case getRingBase = 11
        case setKick = 12
        case setCall = 13
        case getExtensions = 15
        case setExtensions = 16
        case enableRing = 18
        case transferState = 42
        case checkTransfer = 43
    }

    private let connection: SharedDescriptor
    private var isAnswering = false
    /// Whether the server can save what it knows; known since `open`.
    private(set) var hasStates = false
    private var isLogging = false
    init(_ connection: SharedDescriptor) { self.connection = connection }

    /// Agrees upon everything, and gives the server the memory, whose first bytes are the queue's.
    func open(memory: SharedDescriptor, bytes: Int) async throws {
        let offered = try await number(.getFeatures)
        isLogging = offered & Self.logging != 0
        guard offered & Self.features == Self.features else {
            throw MachineError(.refused, "the share server is too old: it knows neither virtio 1 nor vhost-user's extensions")
        }
        let extensions = try await number(.getExtensions)
        try await send(.setExtensions, [extensions & (Self.acknowledgements | Self.states)])
        isAnswering = extensions & Self.acknowledgements != 0
        hasStates = extensions & Self.states != 0
        try await set(.setOwner, [])
        try await set(.setFeatures, [Self.features])
        // One region: where it is for the guest, its size, where it is for us, and where in the file.
        try await set(.setMemory, [1, Self.base, UInt64(bytes), Self.base, 0], memory)
    }

    /// Has the server begin with the queue's request of this number.
    func start(from number: UInt64, kick: SharedDescriptor, call: SharedDescriptor) async throws {
        let index = UInt64(Self.queue)
        try await set(.setRingSize, [index | UInt64(FileQueue.size) << 32])
        try await set(.setRingBase, [index | number << 32])
        // Table, used, available, and no log.
        try await set(
            .setRingPlace, [index, Self.base, Self.base + UInt64(FileQueue.used), Self.base + UInt64(FileQueue.available), 0])
        try await set(.setCall, [index], call)
        try await set(.setKick, [index], kick)
        try await set(.enableRing, [index | 1 << 32])
    }

    /// Has the server leave the queue alone; returns the number of the request that would be next.
    func stop() async throws -> UInt64 { try await number(.getRingBase, [UInt64(Self.queue)]) >> 32 }

    /// Has the server write what it knows of the guest's files to `file`. The queue is stopped.
    func save(to file: SharedDescriptor) async throws {
        // As before a migration, of which saying so is a part; a server that is not told says that it wondered.
        if isLogging { try await set(.setFeatures, [Self.features | Self.logging]) }
        let outcome: Result<Void, any Error>
        do { outcome = .success(try await transfer(file, direction: 0)) } catch { outcome = .failure(error) }
        if isLogging { try await set(.setFeatures, [Self.features]) }
        try outcome.get()
    }

    /// Has the server take what another one wrote. Nothing was asked of it yet.
    func load(_ file: SharedDescriptor) async throws {
        guard hasStates else {
            throw MachineError(.unsupported, "this virtiofsd cannot be restored: install virtiofsd 1.11 or newer")
        }
        try await transfer(file, direction: 1)
    }

    private func transfer(_ file: SharedDescriptor, direction: UInt64) async throws {
        // The phase is 0, stopped. The answer: no error (the low byte), and no other descriptor in the place of ours.
        guard try await number(.transferState, [direction], file) == 1 << 8, try await number(.checkTransfer) == 0 else {
            let what = direction == 0 ? "save" : "restore"
            throw MachineError(.refused, "the share server could not \(what) what it knows of files")
        }
    }

    private func set(_ request: Request, _ words: [UInt64], _ descriptor: SharedDescriptor? = nil) async throws {
        try await send(request, words, descriptor, isAnswered: isAnswering)
        guard isAnswering else { return }
        guard try await answer(request) == 0 else {
            throw MachineError(.refused, "the share server refused request \(request.rawValue) of vhost-user")
        }
    }

    /// Agrees upon what QEMU does, whose awake/hull-awake.c leaves out the same. The rest QEMU says again at each start.
    func takeOver() async throws {
        _ = try await number(.getFeatures)
        try await send(.setExtensions, [try await number(.getExtensions) & ~Self.unrepeatable])
        try await send(.setOwner, [])
    }

    private func number(_ request: Request, _ words: [UInt64] = [], _ descriptor: SharedDescriptor? = nil) async throws -> UInt64
    {
        try await send(request, words, descriptor)
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
