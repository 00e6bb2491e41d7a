import FoundationEssentials
import Glibc
public import LinuxSystem

/// A container as the store knows it.
public struct Container: Sendable {
    public var record: ContainerRecord
    public var state: ContainerState
    public var paths: ContainerPaths
    public var id: String { record.id }
    /// Where it is kept.
    public var roots: Roots { paths.roots }
    public var name: String { record.name }
}

/// All containers below one root: a folder each, made and removed by a rename, so that there is never half of one.
public struct ContainerStore: Sendable {
    public let roots: Roots
    /// By which machines are taken back that outlived their monitors, as `--hypervisor` names them.
    public let drivers: Ledger.Drivers

    public init(_ roots: Roots, drivers: Ledger.Drivers = [:]) {
        self.roots = roots
        self.drivers = drivers
    }

    /// Every container, newest first. A folder that is being made or removed is none, nor is a machine that waits in a pool, nor one whose
    /// record cannot be read: that stops no other, and `Reaper` says so.
    public func list() throws -> [Container] { try everything().filter { $0.record.pool == nil } }

    /// The same, and the machines that wait.
    func everything() throws -> [Container] { try survey().containers }

    /// Every container, and the ids of those that cannot be read, with the reasons.
    func survey() throws -> (containers: [Container], unreadable: [(id: String, why: SandboxError)]) {
        guard exists(roots.containers) else { return ([], []) }
        var all: [Container] = []
        var unreadable: [(String, SandboxError)] = []
        for id in try listDirectory(roots.containers) where !id.hasPrefix(".") {
            do { if let container = try load(id) { all.append(container) } } catch let error as SandboxError {
                unreadable.append((id, error))
            }
        }
        return (all.sorted { $0.record.created > $1.record.created }, unreadable)
    }

    /// The container with exactly this id; nil when it is gone.
    public func load(_ id: String) throws -> Container? {
        let paths = roots.container(id)
        do {
            let record = try JSONDecoder().decode(
                ContainerRecord.self, from: Data(try readFile(paths.record)))
            let state = try JSONDecoder().decode(
                ContainerState.self, from: Data(try readFile(paths.state)))
            guard record.version <= ContainerRecord.version, state.version <= ContainerState.version
            else {
                throw SandboxError(
                    "container \(id.prefix(12)) was written by a newer Hull: use that one, or remove it by hull rm --force \(id.prefix(12))"
                )
            }
            return Container(record: record, state: state, paths: paths)
        } catch let error as SystemError where error.code == ENOENT {
            return nil
        } catch let error as DecodingError {
            throw SandboxError(
                "the record of container \(id.prefix(12)) cannot be read: hull rm --force \(id.prefix(12)) removes it",
                cause: error)
        }
    }

    /// The container that `reference` names: its name, its id, or the beginning of its id (when only one begins so).
    public func find(_ reference: String) throws -> Container {
        let (everything, unreadable) = try survey()
        let all = everything.filter { $0.record.pool == nil }
        if let exact = all.first(where: { $0.name == reference || $0.id == reference }) { return exact }
        let matches = reference.isEmpty ? [] : all.filter { $0.id.hasPrefix(reference) }
        if matches.isEmpty, let broken = unreadable.first(where: { !reference.isEmpty && $0.id.hasPrefix(reference) }) {
            throw broken.why
        }
        switch matches.count {
        case 1: return matches[0]
        case 0: throw SandboxError("No such container: \(reference)", exitCode: 1)
        default:
            throw SandboxError(
                "the id \(reference) is ambiguous: \(matches.count) containers begin so; give more of it",
                exitCode: 1)
        }
    }

    /// Adds a container in state `created`, after `prepare` filled its folder. Throws when its name is taken.
    public func add(_ record: ContainerRecord, prepare: (_ folder: String) async throws -> Void)
        async throws -> Container
    {
        try roots.prepare()
        let aside = "\(roots.containers)/.making-\(record.id)"
        do {
            // Held until the rename: whoever collects left-overs leaves alone what is being made.
            let making = try begin(aside)
            let state = ContainerState(.created)
            try replaceFile("\(aside)/container.json", Array(try JSONEncoder().encode(record)))
            try SparedFile("\(aside)/state.json").replace(Array(try JSONEncoder().encode(state)))
            try await prepare(aside)
            let lock = try FileLock.acquire(roots.storeLock)
            try checkFree(record.name)
            Fault.point("create:rename")
            let paths = roots.container(record.id)
            try checked("make the container", record.id) { rename(aside, paths.folder) }
            unlink("\(paths.folder)/lock")
            withExtendedLifetime((lock, making)) {}
            return Container(record: record, state: state, paths: paths)
        } catch {
            try removeTree(aside)
            throw error
        }
    }

    /// Throws when a container has that name. The caller holds the store's lock, or it may be taken the next moment.
    func checkFree(_ name: String) throws {
        guard let other = try everything().first(where: { $0.name == name }) else { return }
        throw SandboxError(
            "the name \"\(name)\" is in use by container \(other.id.prefix(12)): remove or rename that one, or choose another name"
        )
    }

    /// Makes the folder of a container to be, locked; with the store's lock, so that nobody takes it for a left-over in between.
    private func begin(_ aside: String) throws -> FileLock {
        let lock = try FileLock.acquire(roots.storeLock)
        defer { withExtendedLifetime(lock) {} }
        try makeDirectories(aside)
        return try FileLock.acquire("\(aside)/lock")
    }

    /// Writes a container's state, by whoever has its lock; that it ended can be said on a full disk too.
    public func save(_ state: ContainerState, of id: String) throws {
        try SparedFile(roots.container(id).state).replace(Array(try JSONEncoder().encode(state)))
    }

    /// Removes a container that does not run: first out of sight, then file by file.
    public func remove(_ id: String) throws {
        let aside = "\(roots.containers)/.removing-\(id)"
        do {
            let lock = try FileLock.acquire(roots.storeLock)
            if rename(roots.container(id).folder, aside) != 0 && errno != ENOENT {
                throw SystemError("remove the container", id)
            }
            withExtendedLifetime(lock) {}
        }
        Fault.point("remove:renamed")
        try removeTree(aside)
    }

    /// Removes what makers and removers that were killed have left.
    public func collectLeftovers() throws {
        guard exists(roots.containers) else { return }
        let left = try listDirectory(roots.containers).filter { $0.hasPrefix(".") }
        if left.isEmpty { return }
        let lock = try FileLock.acquire(roots.storeLock)
        defer { withExtendedLifetime(lock) {} }
        for name in left {
            let path = "\(roots.containers)/\(name)"
            if name.hasPrefix(".making-"), FileLock.isHeld("\(path)/lock") { continue }
            try removeTree(path)
        }
    }

    /// 64 random hexadecimal digits.
    public static func newIdentifier() -> String {
        let digits = Array("0123456789abcdef")
        var random = SystemRandomNumberGenerator()
        return String((0..<64).map { _ in digits[Int.random(in: 0..<16, using: &random)] })
    }
}
