import Glibc
import LinuxSystem

/// Which of a bundle's annotations `run.hull.*` are obeyed. Whoever may start containers at an engine is not therefore trusted with files and
/// programs of the host: without a configuration, an annotation sizes the machine and does nothing else.
public struct AnnotationPolicy: Hashable, Sendable {
    /// Names without `run.hull.`.
    var allowed: Set<String> = ["memory", "vcpus"]
    /// Bytes and processors at most; nil for what the host has.
    var memory: UInt64?
    var processors: Int?
    /// Kernels that may be named; folders in which disks may be.
    var kernels: [String] = []
    var diskFolders: [String] = []

    /// All there are.
    static let known: Set<String> = ["hypervisor", "machine", "kernel", "kernel-args", "memory", "vcpus", "disks"]
    static let prefix = "run.hull."

    public init() {}

    /// From a configuration's text; throws a sentence where it says what Hull does not know.
    init(parsing text: String) throws {
        let file = try PlainTOML(text)
        for (table, entries) in file.tables where table != "annotations" {
            throw SandboxError(
                table.isEmpty ? "\(entries.keys.sorted()[0]) stands in no table" : "there is no table [\(table)]", exitCode: 1)
        }
        for (key, value) in file.tables["annotations"] ?? [:] {
            switch (key, value) {
            case ("allow", .list(let names)):
                if let unknown = names.first(where: { !Self.known.contains($0) }) {
                    throw SandboxError(
                        "allow names \"\(unknown)\"; known are \(Self.known.sorted().joined(separator: ", "))", exitCode: 1)
                }
                allowed = Set(names)
            case ("memory-limit", .text(let amount)):
                guard let bytes = ByteCount.parse(amount) else {
                    throw SandboxError("memory-limit \"\(amount)\" is no amount like \"4g\"", exitCode: 1)
                }
                memory = bytes
            case ("vcpus-limit", .number(let count)) where count > 0: processors = count
            case ("kernels", .list(let paths)): kernels = try Self.absolute(paths, key)
            case ("disk-folders", .list(let paths)): diskFolders = try Self.absolute(paths, key)
            default: throw SandboxError("\(key) in [annotations] is unknown, or has a value of another kind", exitCode: 1)
            }
        }
    }

    private static func absolute(_ paths: [String], _ key: String) throws -> [String] {
        for path in paths where !path.hasPrefix("/") || path.split(separator: "/").contains("..") {
            throw SandboxError("\(key) takes absolute paths, and \"\(path)\" is none", exitCode: 1)
        }
        return paths
    }

    /// The host's: `/etc/hull/config.toml`, or the file that HULL_CONFIG names. A file that cannot be read or understood stops
    /// whatever would be decided by it.
    public static func ofHost() throws -> AnnotationPolicy {
        let path = getenv("HULL_CONFIG").map { String(cString: $0) } ?? "/etc/hull/config.toml"
        let bytes: [UInt8]?
        do { bytes = try readFile(path) } catch {
            if error.code != ENOENT { throw error }
            bytes = nil
        }
        guard let text = bytes.map({ String(decoding: $0, as: UTF8.self) }) else { return AnnotationPolicy() }
        do { return try AnnotationPolicy(parsing: text) } catch { throw SandboxError("\(path): \(error)", exitCode: 1) }
    }

    /// Throws where a bundle's annotations ask for more than is allowed; ones of other people's are not looked at.
    public func check(_ annotations: [String: String]) throws {
        for (name, value) in annotations.sorted(by: { $0.key < $1.key }) where name.hasPrefix(Self.prefix) {
            let short = String(name.dropFirst(Self.prefix.count))
            guard Self.known.contains(short) else { throw SandboxError("there is no annotation \(name)", exitCode: 1) }
            guard allowed.contains(short) else {
                throw SandboxError(
                    "the annotation \(name) is not allowed here: name \"\(short)\" in allow of [annotations] in /etc/hull/config.toml",
                    exitCode: 1)
            }
            try check(short, value)
        }
    }

    private func check(_ name: String, _ value: String) throws {
        func refuse(_ reason: String) -> SandboxError {
            SandboxError("the annotation \(Self.prefix)\(name) \"\(value)\" \(reason)", exitCode: 1)
        }
        switch name {
        case "memory":
            guard let bytes = ByteCount.parse(value), bytes >= 64 << 20 else { throw refuse("is no amount of at least 64m") }
            if let memory, bytes > memory { throw refuse("is more than this host's configuration allows") }
        case "vcpus":
            guard let count = Int(value), (1...255).contains(count) else { throw refuse("is no number from 1 to 255") }
            if let processors, count > processors { throw refuse("is more than this host's configuration allows") }
        case "kernel":
            guard kernels.contains(value) else { throw refuse("is none of the kernels that this host's configuration names") }
        case "disks":
            for disk in try DiskAnnotation.parse(value) {
                let folder = disk.path[..<(disk.path.lastIndex(of: "/") ?? disk.path.startIndex)]
                guard diskFolders.contains(where: { folder == $0 || folder.hasPrefix($0 + "/") }) else {
                    throw refuse("names \(disk.path), which is in no folder that this host's configuration names")
                }
            }
        default: break
        }
    }
}

/// A disk that a bundle asks for: `/srv/disks/a.img:/data:10g:ext4`, several of them with `;` between. (Podman takes a comma for the end
/// of an annotation.)
public struct DiskAnnotation: Codable, Hashable, Sendable {
    /// The file on the host; made where it is missing.
    public var path: String
    /// Where it is mounted in the container.
    public var mount: String
    /// `ext4`.
    public var filesystem: String
    /// Bytes, for one that is made.
    public var size: UInt64

    static func parse(_ text: String) throws -> [DiskAnnotation] {
        let all = try text.split(separator: ";").map { part in
            let words = part.split(separator: ":", omittingEmptySubsequences: false).map { String($0) }
            guard (2...4).contains(words.count), case let (path, mount) = (words[0], words[1]), path.hasPrefix("/"),
                mount.hasPrefix("/"), mount != "/", !(path + "/" + mount).split(separator: "/").contains("..")
            else {
                throw SandboxError(
                    "run.hull.disks: \"\(part)\" is not FILE:MOUNT[:SIZE[:FILESYSTEM]] with absolute paths", exitCode: 1)
            }
            let filesystem = words.count > 3 ? words[3] : "ext4"
            guard filesystem == "ext4" else {
                throw SandboxError("run.hull.disks: the filesystem \"\(filesystem)\" is not ext4", exitCode: 1)
            }
            guard let size = ByteCount.parse(words.count > 2 ? words[2] : "16g"), size >= 64 << 20, size <= 16 << 40 else {
                throw SandboxError("run.hull.disks: a size is 64m to 16t", exitCode: 1)
            }
            return DiskAnnotation(path: path, mount: mount, filesystem: filesystem, size: size)
        }
        guard all.count <= 8 else { throw SandboxError("run.hull.disks: a machine has 8 of them at most", exitCode: 1) }
        return all
    }
}
