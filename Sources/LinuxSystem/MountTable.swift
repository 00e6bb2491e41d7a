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

    /// Parses the text; lines that make no sense are left out.
    public init(_ text: String) {
        entries = text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count > 6, let id = Int(words[0]), let parent = Int(words[1]),
                let dash = words.dropFirst(6).firstIndex(of: "-"), dash + 1 < words.count
            else { return nil }
            return Entry(id: id, parent: parent, path: Self.unescape(words[4]), type: Self.unescape(words[dash + 1]))
        }
    }

    /// The caller's own.
    public static func current() throws(SystemError) -> MountTable { MountTable(try readText("/proc/self/mountinfo")) }

    /// The mount that `path`, which is absolute and without links, lies in.
    public func holding(_ path: String) -> Entry? {
        visible.filter { Self.contains($0.path, path) }.max { $0.path.utf8.count < $1.path.utf8.count }
    }

    /// What is mounted below `path` and can be seen there, parents before what is on them.
    public func below(_ path: String) -> [Entry] {
        visible.filter { $0.path != path && Self.contains(path, $0.path) }.sorted { $0.path < $1.path }
    }

    // A later mount, on a folder above or on the same one, hides what was there before and is not among what it stands on.
    private var visible: [Entry] {
        let all = Dictionary(entries.map { ($0.id, $0) }) { first, _ in first }
        return entries.filter { entry in
            var ancestors: Set<Int> = [entry.id]
            var next = all[entry.parent]
            while let ancestor = next, ancestors.insert(ancestor.id).inserted { next = all[ancestor.parent] }
            return !entries.contains { other in !ancestors.contains(other.id) && Self.hides(other, entry, all) }
        }
    }

    private static func hides(_ other: Entry, _ entry: Entry, _ all: [Int: Entry]) -> Bool {
        guard contains(other.path, entry.path) else { return false }
        // What is mounted on the entry itself hides nothing of it unless it covers it whole.
        if other.path != entry.path { return true }
        var next: Entry? = other
        var seen: Set<Int> = []
        while let ancestor = next, seen.insert(ancestor.id).inserted {
            if ancestor.id == entry.id { return true }
            next = all[ancestor.parent]
        }
        return false
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
