import FoundationEssentials
import Glibc
public import LinuxSystem
import OCISpec
import Storage

/// What makes one waiting machine as good as another: everything that is settled before the container's own command is known.
public struct PoolShape: Codable, Hashable, Sendable {
    /// The image's file, in which its content shows.
    var image: String
    var network: ContainerRecord.NetworkSettings.Mode
    /// As `ContainerRecord.Resources` has them.
    var memory: UInt64?
    var cpus: Double?
    var machine: ContainerRecord.MachineSettings

    /// That of a container; nil for one whose machine cannot be made before it is known: with folders or volumes of the host, published ports,
    /// or a root of its own.
    public init?(_ record: ContainerRecord) {
        guard case .image(_, _, let file) = record.root, record.engine == nil, record.origin == nil, record.network.ports.isEmpty,
            record.machine.withoutTemplate != true, record.machine.disks == nil, record.machine.resident == nil
        else { return nil }
        for mount in record.mounts {
            guard case .tmpfs = mount.source else { return nil }
        }
        image = file
        network = record.network.mode
        memory = record.resources.memory
        cpus = record.resources.cpus
        machine = record.machine
    }
}

/// Machines of one shape that wait for their containers, as `hull pool set` asked for them.
public struct Pool: Codable, Sendable {
    /// Names it: a digest of what was asked for.
    public var key: String
    /// The image as the user named it.
    public var image: String
    /// How many machines are to wait.
    public var count: Int
    public var network: ContainerRecord.NetworkSettings.Mode
    public var memory: UInt64?
    public var cpus: Double?
    public var machine: ContainerRecord.MachineSettings

    /// A pool of `count` machines for containers that are asked for like `request`.
    public init(image: String, count: Int, _ request: RunRequest) throws {
        self.image = image
        self.count = count
        network = request.network.mode
        memory = request.resources.memory
        cpus = request.resources.cpus
        machine = request.machine
        key = ""
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        var same = self
        same.count = 0
        key = String(SHA256.digest([UInt8](try encoder.encode(same))).hex.prefix(12))
    }

    /// What a container of the pool is asked for like.
    public var request: RunRequest {
        var request = RunRequest()
        request.command = ["true"]
        request.network.mode = network
        request.resources.memory = memory
        request.resources.cpus = cpus
        request.machine = machine
        request.autoRemove = true
        return request
    }
}

/// The pools below one root, a file each, and their members: containers whose record has the pool's key until somebody's run takes them.
public struct PoolStore: Sendable {
    private let store: ContainerStore
    private var path: String { "\(store.roots.data)/pools" }

    public init(_ store: ContainerStore) { self.store = store }

    /// Where whoever fills pools in the background complains.
    public var log: String { "\(path)/keeper.log" }

    /// All pools. Costs one look at a folder where there is none.
    public func list() throws -> [Pool] {
        guard exists(path) else { return [] }
        return try listDirectory(path).filter { $0.hasSuffix(".json") }.sorted().map { name in
            do { return try JSONDecoder().decode(Pool.self, from: Data(try readFile("\(path)/\(name)"))) } catch let error
                as DecodingError
            {
                throw SandboxError(
                    "the pool \(path)/\(name) cannot be read: remove that file, and set the pool again", cause: error)
            }
        }
    }

    /// Writes the pool down; `PoolFilling` makes its machines.
    public func set(_ pool: Pool) throws {
        try makeDirectories(path)
        try replaceFile("\(path)/\(pool.key).json", Array(try JSONEncoder().encode(pool)))
    }

    /// Whether the pool was set, and not forgotten since.
    public func contains(_ pool: Pool) -> Bool { exists("\(path)/\(pool.key).json") }

    /// Forgets the pool, and ends the machines that wait in it.
    @Loop public func remove(_ pool: Pool) async throws {
        if unlink("\(path)/\(pool.key).json") != 0, errno != ENOENT { throw SystemError("remove the pool", pool.key) }
        try await end(try members(of: pool))
    }

    /// The pool's members, ready and not yet.
    public func members(of pool: Pool) throws -> [Container] { try store.everything().filter { $0.record.pool == pool.key } }

    /// Whether a machine waits in it for a container.
    public static func isReady(_ member: Container) -> Bool { member.state.isLive && exists(member.paths.socket) }

    /// Held by whoever fills pools.
    public func attemptLock() throws -> FileLock? {
        try makeDirectories(path)
        return try FileLock.attempt("\(path)/.lock")
    }

    /// Whether a pool has fewer machines than it should.
    public func isWanting() throws -> Bool {
        try list().contains { pool in try members(of: pool).count { $0.state.isLive } < pool.count }
    }

    /// Ends members, and waits until nothing is left of them.
    @Loop public func end(_ members: [Container]) async throws {
        for member in members { member.state.monitor?.signal(SIGTERM) }
        for member in members {
            try await withDeadline(.seconds(30), awaiting: "the end of the waiting machine \(member.id.prefix(12))") {
                var isTold = member.state.monitor != nil
                repeat {
                    while FileLock.isHeld(member.paths.lock) {
                        // One that was just being started had not said yet which process its monitor is.
                        if !isTold, let monitor = try store.load(member.id)?.state.monitor { isTold = monitor.signal(SIGTERM) }
                        try await sleep(for: .milliseconds(5))
                    }
                } while try await !isRemoved(member)
            }
        }
    }

    /// Removes what is left of a member. False where its monitor has only just begun.
    @Loop private func isRemoved(_ member: Container) async throws -> Bool {
        guard let left = try store.load(member.id) else { return true }
        do { try await Removal(store).remove(left) } catch {
            if FileLock.isHeld(member.paths.lock) { return false }
            throw error
        }
        return true
    }

    /// A machine that waits for just such a container as `record` wants, its own from now on: the record, which has the machine's id, and the
    /// connection over which it waits for `start`. nil: there is none, and one must be started.
    @Loop public func claim(_ record: ContainerRecord) async throws -> (Container, MonitorClient)? {
        guard exists(path), let shape = PoolShape(record) else { return nil }
        for member in try store.everything()
        where member.record.pool != nil && Self.isReady(member) && PoolShape(member.record) == shape {
            var wanted = record
            wanted.rename(to: member.id)
            // One that ends or is taken at this moment is none; another may be free.
            guard let client = try? MonitorClient(to: member), (try? await client.ask(.claim(wanted))) != nil else { continue }
            switch try? await client.answer() {  // as above
            case .done:
                Fault.point("pool:answered")
                return (Container(record: wanted, state: member.state, paths: member.paths), client)
            case .failed(let sentence, let code) where code != MemberTaken.code: throw SandboxError(sentence, exitCode: code)
            default: continue
            }
        }
        return nil
    }
}

/// Somebody else was quicker.
struct MemberTaken: HullError {
    static let code: Int32 = 75  // EX_TEMPFAIL: never an exit code of a verb
    let sentence = "this machine has a container already"
    let exitCode = MemberTaken.code
}

extension ContainerRecord {
    /// Gives it another id, and what follows from the id.
    mutating func rename(to id: String) {
        if hostname == String(self.id.prefix(12)) { hostname = String(id.prefix(12)) }
        self.id = id
    }
}
