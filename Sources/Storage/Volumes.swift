import FoundationEssentials
import Glibc
import LinuxSystem

/// A volume: a folder that outlives containers.
public struct Volume: Sendable, Equatable {
    public let name: String
    /// Made for one container, without a name of a person's.
    public let isAnonymous: Bool
    public let labels: [String: String]
    /// RFC 3339, UTC.
    public let created: String
    /// The folder with its content.
    public let path: String
}

/// The volumes of this host: `NAME/data` has the content, `NAME/volume.json` the rest.
public struct Volumes: Sendable {
    /// The folder of them all.
    public let root: String

    private struct Record: Codable {
        var version = 1
        var name: String
        var anonymous: Bool
        var labels: [String: String]
        var created: Int64
    }

    /// `root` is made when it is missing.
    public init(root: String) throws {
        self.root = root
        try makeDirectories(root)
    }

    /// Whether `name` may name a volume, as Docker has it: a letter or digit, then at least one more of those, `_`, `.` or `-`.
    public static func isName(_ name: String) -> Bool {
        func isWord(_ byte: UInt8) -> Bool {
            (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
        }
        guard (2...128).contains(name.utf8.count), let first = name.utf8.first, isWord(first) else { return false }
        return name.utf8.allSatisfy { isWord($0) || $0 == 0x5f || $0 == 0x2e || $0 == 0x2d }
    }

    /// The volume `name`, made when it is missing; with nil an anonymous one with a random name.
    @discardableResult
    public func make(_ name: String?, labels: [String: String] = [:]) throws -> Volume {
        if let name, !Self.isName(name) {
            throw StorageError(
                .badName, "\"\(name)\" cannot name a volume: use two or more letters, digits, '_', '.' and '-', the first no sign"
            )
        }
        let chosen = name ?? (0..<8).map { _ in Self.hex(UInt32.random(in: 0 ... .max)) }.joined()
        let held = try lock()
        defer { withExtendedLifetime(held) {} }
        if let there = try read(chosen) { return there }
        let folder = "\(root)/\(chosen)"
        do {
            // What a killed maker left has no record.
            try removeTree(folder)
            try makeDirectories("\(folder)/data", mode: 0o755)
            try checked("set the mode of", folder) { chmod(folder, 0o711) }
            let record = Record(name: chosen, anonymous: name == nil, labels: labels, created: Int64(time(nil)))
            try replaceFile("\(folder)/volume.json", Array(try JSONEncoder().encode(record)), durable: true)
        } catch {
            try removeTree(folder)
            throw error
        }
        guard let made = try read(chosen) else { throw StorageError(.failed, "make the volume \(chosen): it is gone again") }
        return made
    }

    /// Throws `.notHere` when there is none.
    public func find(_ name: String) throws -> Volume {
        guard Self.isName(name), let volume = try read(name) else {
            throw StorageError(.notHere, "there is no volume \"\(name)\"")
        }
        return volume
    }

    /// All, by name.
    public func list() throws -> [Volume] {
        try listDirectory(root).filter(Self.isName).compactMap { try read($0) }
    }

    /// Removes it with its content. `users` names the containers that use it: then it stays, with an error.
    public func remove(_ name: String, users: (String) throws -> [String]) throws {
        let volume = try find(name)
        let held = try lock()
        defer { withExtendedLifetime(held) {} }
        let containers = try users(volume.name)
        if !containers.isEmpty {
            throw StorageError(
                .inUse, "the volume \(name) is used by \(containers.joined(separator: ", ")): remove them first")
        }
        // The record first: without it the rest is a left-over.
        try checked("remove", volume.path) { unlink("\(root)/\(name)/volume.json") }
        try removeTree("\(root)/\(name)")
    }

    /// Removes what killed makers and removers left.
    public func collectLeftovers() throws {
        let held = try lock()
        defer { withExtendedLifetime(held) {} }
        for name in try listDirectory(root) where Self.isName(name) && !exists("\(root)/\(name)/volume.json") {
            try removeTree("\(root)/\(name)")
        }
    }

    // Held for milliseconds.
    private func lock() throws -> FileLock { try FileLock.acquire("\(root)/_lock") }

    private func read(_ name: String) throws -> Volume? {
        let path = "\(root)/\(name)/volume.json"
        guard exists(path) else { return nil }
        let record: Record
        do { record = try JSONDecoder().decode(Record.self, from: Data(try readFile(path))) } catch {
            throw StorageError(.damaged, "\(path) cannot be read: the volume's content is beside it, in data", cause: error)
        }
        return Volume(
            name: record.name, isAnonymous: record.anonymous, labels: record.labels,
            created: timestamp(record.created),
            path: "\(root)/\(name)/data")
    }

    private static func hex(_ number: UInt32) -> String {
        let text = String(number, radix: 16)
        return String(repeating: "0", count: 8 - text.utf8.count) + text
    }
}

/// Seconds since 1970 as RFC 3339 has them.
func timestamp(_ seconds: Int64) -> String {
    var moment = time_t(seconds)
    var parts = tm()
    gmtime_r(&moment, &parts)
    func digits(_ value: Int32, _ count: Int = 2) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
    return "\(digits(parts.tm_year + 1900, 4))-\(digits(parts.tm_mon + 1))-\(digits(parts.tm_mday))T"
        + "\(digits(parts.tm_hour)):\(digits(parts.tm_min)):\(digits(parts.tm_sec))Z"
}
