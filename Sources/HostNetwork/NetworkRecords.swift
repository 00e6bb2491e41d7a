import FoundationEssentials
import Glibc
import LinuxSystem
import Netlink

/// Hull's own files about the network: one a endpoint, and the choice of subnet. Call these with the lock held.
struct NetworkRecords: Sendable {
    let directory: String
    let choiceFile: String

    /// What was chosen once and stays.
    struct Choice: Codable, Hashable {
        var version = 1
        var subnet: IPNetwork
        var prefix6: IPNetwork
        /// The address given out last.
        var last: IPAddress?
    }

    private struct Record: Codable {
        var version = 1
        /// The boot it was made in: after another one nothing of it is left.
        var boot: String
        var endpoint: Endpoint
    }

    private var folder: String { "\(directory)/endpoints" }
    private static let bootPath = "/proc/sys/kernel/random/boot_id"

    func prepare() throws { try makeDirectories(folder) }

    func lock() async throws -> FileLock {
        let deadline = ContinuousClock.now + .seconds(60)
        // The holder waits for programs meanwhile, and may be another task of this very thread: never block it.
        while ContinuousClock.now < deadline {
            if let lock = try FileLock.attempt("\(directory)/lock") { return lock }
            try await sleep(for: .milliseconds(5))
        }
        throw HostNetworkError(
            .state, "lock the network: another Hull process has held \(directory)/lock for a minute")
    }

    /// All of this boot.
    func endpoints() throws -> [Endpoint] {
        guard exists(folder) else { return [] }
        let boot = try readText(Self.bootPath)
        return try listDirectory(folder).filter { $0.hasSuffix(".json") }.compactMap { name in
            let path = "\(folder)/\(name)"
            let bytes: [UInt8]
            do {
                bytes = try readFile(path)
            } catch let error as SystemError where error.code == ENOENT {
                return nil  // detached meanwhile, by one whom a mere reader does not lock out
            }
            let record: Record
            do {
                record = try JSONDecoder().decode(Record.self, from: Data(bytes))
            } catch {
                throw HostNetworkError(
                    .state, "read the network record \(path): it is damaged; remove it", cause: error)
            }
            return record.boot == boot ? record.endpoint : nil
        }
    }

    func write(_ endpoint: Endpoint) throws {
        let record = Record(boot: try readText(Self.bootPath), endpoint: endpoint)
        try replaceFile(path(endpoint.key), Array(try Self.encoder.encode(record)))
    }

    func remove(_ key: String) throws {
        let path = try path(key)
        if unlink(path) != 0 && errno != ENOENT { throw SystemError("remove", path) }
        try removeHalves(of: path)
    }

    /// What a process that was killed left of a file that it was about to replace (`replaceFile`). Nobody else writes: the lock is held.
    private func removeHalves(of path: String) throws {
        guard let slash = path.lastIndex(of: "/") else { return }
        let folder = String(path[..<slash])
        let name = path[path.index(after: slash)...]
        for half in try listDirectory(folder) where half.hasPrefix("\(name).new-") { unlink("\(folder)/\(half)") }
    }

    func choice() throws -> Choice? {
        guard exists(choiceFile) else { return nil }
        do {
            return try JSONDecoder().decode(Choice.self, from: Data(try readFile(choiceFile)))
        } catch {
            throw HostNetworkError(
                .state, "read the choice of subnet in \(choiceFile): it is damaged; remove it",
                cause: error)
        }
    }

    func write(_ choice: Choice) throws {
        if let slash = choiceFile.lastIndex(of: "/"), slash != choiceFile.startIndex {
            try makeDirectories(String(choiceFile[..<slash]))
        }
        if choiceFile.hasPrefix("/") { try removeHalves(of: choiceFile) }
        try replaceFile(choiceFile, Array(try Self.encoder.encode(choice)))
    }

    private func path(_ key: String) throws -> String {
        guard !key.isEmpty, key.utf8.count <= 200, !key.hasPrefix("."),
            key.utf8.allSatisfy({
                (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
                    || [45, 46, 95].contains($0)
            })
        else {
            throw HostNetworkError(
                .state, "name an endpoint \"\(key)\": only letters, digits, -, _ and . may be in a key")
        }
        return "\(folder)/\(key).json"
    }

    private static let encoder: JSONEncoder = {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        return encoder
    }()
}
