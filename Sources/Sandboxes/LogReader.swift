import CLinux
import Glibc
public import LinuxSystem

/// Reads a container's log, its older part first, and goes on with it while the container runs.
public struct LogReader {
    private let path: String
    private let tail: Int?
    private let since: Int64?
    private let until: Int64?
    private let show: ([LogEntry]) -> Void

    /// `tail` lines at most (nil: all) between two times (nanoseconds since 1970); they go to `show`, some at a time.
    public init(
        path: String, tail: Int?, since: Int64?, until: Int64?, show: @escaping ([LogEntry]) -> Void
    ) {
        self.path = path
        self.tail = tail
        self.since = since
        self.until = until
        self.show = show
    }

    /// Reads what is there; with `container`, also what comes until it has ended.
    @Loop
    public func read(following container: Container?) async throws {
        // Watched before it is read, so that nothing falls between.
        let watch = try container.map { try FolderWatch($0.paths.folder) }
        var entries: [LogEntry] = []
        for file in ["\(path).1", path] where exists(file) { entries += lines(of: try readFile(file)) }
        if let tail { entries = Self.last(tail, of: entries) }
        show(entries)
        guard let container, let watch else { return }
        try await follow(container, watch)
    }

    @Loop
    private func follow(_ container: Container, _ watch: FolderWatch) async throws {
        var file = exists(path) ? SharedDescriptor(try openFile(path, O_RDONLY)) : nil
        if let file { lseek(file.raw, 0, SEEK_END) }
        var rest: [UInt8] = []
        while true {
            // Asked before reading: what is written before the end is read after it was seen.
            let live = FileLock.isHeld(container.paths.lock)
            if file == nil, exists(path) { file = SharedDescriptor(try openFile(path, O_RDONLY)) }
            if let open = file {
                rest += try readFile(open.raw, path)
                if let end = rest.lastIndex(of: UInt8(ascii: "\n")) {
                    show(lines(of: Array(rest[...end])))
                    rest.removeSubrange(...end)
                }
                if !Self.isStill(open, at: path) {
                    file = nil
                    continue
                }
            }
            guard live else { return }
            try await watch.next(atMost: .seconds(1))
        }
    }

    /// Whether the open file is what the path names: a rotation puts a new one there.
    private static func isStill(_ file: SharedDescriptor, at path: String) -> Bool {
        var open = stat()
        var named = stat()
        guard fstat(file.raw, &open) == 0, stat(path, &named) == 0 else { return true }
        return open.st_ino == named.st_ino
    }

    private func lines(of bytes: [UInt8]) -> [LogEntry] {
        bytes.split(separator: UInt8(ascii: "\n")).compactMap { LogEntry($0) }.filter { entry in
            guard since != nil || until != nil, let time = Timestamp(rfc3339: entry.time)?.nanoseconds
            else { return true }
            return time >= since ?? .min && time <= until ?? .max
        }
    }

    /// The entries of the last `count` whole lines.
    static func last(_ count: Int, of entries: [LogEntry]) -> [LogEntry] {
        guard count > 0 else { return [] }
        var lines = 0
        for index in entries.indices.reversed() {
            if entries[index].text.last == UInt8(ascii: "\n") || index == entries.count - 1 { lines += 1 }
            if lines > count { return Array(entries[(index + 1)...]) }
        }
        return entries
    }
}
