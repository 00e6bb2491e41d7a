import Glibc

/// The mounts of a mount namespace, as /proc/PID/mountinfo lists them (proc(5)). Pure.
public struct MountTable: Sendable {
    /// One mount.
    public struct Entry: Sendable, Hashable {
        /// Its number and that of the mount it is on.
        public var id: Int
        public var parent: Int
        /// Where it is mounted.
        public var path: String
        /// Its filesystem's type, e.g. `ext4` or `fuse.sshfs`.
        public var type: String
    }

    /// In the kernel's order.
    public let entries: [Entry]
    /// Each by the mount that it is on (0: none of these) and where.
    private let mounted: [Place: Entry]

    private struct Place: Hashable {
        var parent: Int
        var path: String
    }

    /// Parses the text; lines that make no sense are left out.
    public init(_ text: String) {
        entries = text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count > 6, let id = Int(words[0]), let parent = Int(words[1]),
                let dash = words.dropFirst(6).firstIndex(of: "-"), dash + 1 < words.count
            else { return nil }
            return Entry(id: id, parent: parent, path: Self.unescape(words[4]), type: Self.unescape(words[dash + 1]))
        }
        let ids = Set(entries.map(\.id))
        mounted = Dictionary(
            entries.map { entry in
                let isOnOther = entry.parent != entry.id && ids.contains(entry.parent)
                return (Place(parent: isOnOther ? entry.parent : 0, path: entry.path), entry)
            }, uniquingKeysWith: { $1 })
    }

    /// The caller's own.
    public static func current() throws(SystemError) -> MountTable { MountTable(try readText("/proc/self/mountinfo")) }

    /// The mount that `path`, which is absolute and without links, lies in: what the kernel comes to that looks it up. It begins at the
    /// caller's root, whatever is mounted over that.
    public func holding(_ path: String) -> Entry? {
        var found = mounted[Place(parent: 0, path: "/")]
        var place = ""
        for part in path.split(separator: "/") {
            place += "/\(part)"
            while let next = mounted[Place(parent: found?.id ?? 0, path: place)] { found = next }
        }
        return found
    }

    /// What is mounted below `path` and can be seen there, parents before what is on them.
    public func below(_ path: String) -> [Entry] {
        // A later mount, on a folder above or on the same one, hides what was there before.
        entries.filter { $0.path != path && Self.contains(path, $0.path) && holding($0.path) == $0 }.sorted { $0.path < $1.path }
    }

    private static func contains(_ folder: String, _ path: String) -> Bool {
        folder == "/" || path == folder || path.hasPrefix(folder + "/")
    }

    // `\040` and its like stand for space, tab, newline and the backslash.
    private static func unescape(_ word: Substring) -> String {
        guard word.utf8.contains(UInt8(ascii: "\\")) else { return String(word) }
        var bytes: [UInt8] = []
        var rest = Array(word.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.count >= 3,
                let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
