import Glibc
public import LinuxSystem

/// The guest's console, kept in a file of bounded size. A guest may write without end: when the file is full, its older
/// half goes (it becomes PATH.1, over the one before).
@Loop
public final class ConsoleLog {
    /// Of the file and of the one before it, each.
    static let fileLimit = 1 << 20
    /// What is kept in memory for error reports.
    static let tailLimit = 16384

    private let path: String
    private let console: SharedDescriptor
    private var file: SharedDescriptor
    private var size: Int
    private var tail = ConsoleTail(limit: tailLimit)

    /// Opens the log, to be filled from `console`, which must not block.
    public init(_ path: String, from console: SharedDescriptor) throws {
        self.path = path
        self.console = console
        let file = SharedDescriptor(try openFile(path, O_WRONLY | O_CREAT | O_APPEND))
        var status = stat()
        try checked("look at", path) { fstat(file.raw, &status) }
        self.file = file
        size = Int(status.st_size)
    }

    /// Reads until the console closes; run it as long as the machine lives.
    public func record() async {
        // A console that cannot be read any more is at its end.
        while let bytes = try? await readSome(console.raw, capacity: 16384), !bytes.isEmpty {
            tail.append(bytes)
            // A full disk must not end the machine: what does not fit is lost from the file, not from the tail.
            try? keep(bytes)
        }
    }

    private func keep(_ bytes: [UInt8]) throws {
        if size + bytes.count > Self.fileLimit {
            try checked("turn over", path) { rename(path, path + ".1") }
            file = SharedDescriptor(try openFile(path, O_WRONLY | O_CREAT | O_APPEND | O_TRUNC))
            size = 0
        }
        try writeFile(file.raw, path, bytes)
        size += bytes.count
    }

    /// The last lines of the console, cleaned for showing.
    public func lines(_ count: Int) -> String { tail.lines(count) }
    /// Whether the kernel said that it panicked.
    public var showsPanic: Bool { tail.showsPanic }
}

/// The last bytes of a console, cleaned for showing. Pure.
public struct ConsoleTail: Sendable {
    let limit: Int
    private var bytes: [UInt8] = []

    /// Keeps at least the last `limit` bytes.
    public init(limit: Int) { self.limit = limit }

    /// Adds bytes of the console.
    public mutating func append(_ more: [UInt8]) {
        bytes += more
        if bytes.count > 2 * limit { bytes.removeFirst(bytes.count - limit) }
    }

    /// The last `count` lines; control characters, with which a guest could write to the terminal of whoever reads it, are
    /// replaced.
    public func lines(_ count: Int) -> String {
        let text = String(decoding: bytes.suffix(limit), as: UTF8.self)
        let clean = String(
            String.UnicodeScalarView(
                text.unicodeScalars.compactMap { scalar -> Unicode.Scalar? in
                    if scalar == "\n" || scalar == "\t" { return scalar }
                    if scalar == "\r" { return nil }
                    return scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value) ? "\u{FFFD}" : scalar
                }))
        return clean.split(separator: "\n").suffix(count).joined(separator: "\n")
    }

    /// The kernel's own words (kernel/panic.c), at the start of a line or behind its time stamp.
    public var showsPanic: Bool {
        String(decoding: bytes.suffix(limit), as: UTF8.self).split(whereSeparator: \.isNewline).contains { line in
            var rest = line
            if rest.hasPrefix("["), let close = rest.firstIndex(of: "]") {
                rest = rest[rest.index(after: close)...].drop { $0 == " " }
            }
            return rest.hasPrefix("Kernel panic - not syncing")
        }
    }
}
