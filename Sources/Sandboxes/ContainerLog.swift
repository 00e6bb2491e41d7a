import Glibc
public import LinuxSystem

/// Which of a process's two outputs.
public enum OutputStream: String, Sendable {
    case stdout, stderr
}

/// A container's output on disk, in the format of Kubernetes' CRI: `TIME stdout F line`, where P instead of F marks a line that
/// goes on. Every byte is kept, but for what a full log of two files of `limit` bytes each had to give up.
public struct ContainerLog: ~Copyable {
    /// Bytes after which the file becomes `PATH.1` and a new one begins.
    public static let limit = 64 << 20

    private let path: String
    private var file: OwnedDescriptor
    private var size: Int

    /// Opens the log for appending.
    public init(_ path: String) throws {
        self.path = path
        file = try openFile(path, O_WRONLY | O_CREAT | O_APPEND)
        size = Int(lseek(file.raw, 0, SEEK_END))
    }

    /// Appends what came from `stream`, each line with its time.
    public mutating func append(_ bytes: [UInt8], from stream: OutputStream, at time: Int64) throws {
        let stamp = Array("\(Timestamp(nanoseconds: time).rfc3339) \(stream.rawValue) ".utf8)
        let whole = stamp + [UInt8(ascii: "F"), UInt8(ascii: " ")]
        let part = stamp + [UInt8(ascii: "P"), UInt8(ascii: " ")]
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count + bytes.count / 4 + 64)
        bytes.withUnsafeBytes { raw in
            var start = 0
            while start < raw.count {
                // A search by bytes in Swift costs more than all the rest.
                let found = memchr(raw.baseAddress! + start, Int32(UInt8(ascii: "\n")), raw.count - start)
                let end = found.map { $0 - UnsafeMutableRawPointer(mutating: raw.baseAddress!) } ?? raw.count
                text.append(contentsOf: found == nil ? part : whole)
                text.append(contentsOf: UnsafeRawBufferPointer(rebasing: raw[start..<end]))
                text.append(UInt8(ascii: "\n"))
                start = end + 1
            }
        }
        if size + text.count > Self.limit { try rotate() }
        try writeFile(file.raw, path, text)
        size += text.count
    }

    private mutating func rotate() throws {
        try checked("rotate the log", path) { rename(path, "\(path).1") }
        file = try openFile(path, O_WRONLY | O_CREAT | O_APPEND)
        size = 0
    }
}

/// A line, or a part of one, from a log.
public struct LogEntry: Sendable, Equatable {
    /// RFC 3339, with nanoseconds.
    public var time: String
    public var stream: OutputStream
    /// With the newline where the line ends here.
    public var text: [UInt8]

    /// Reads one line of a log; nil for what is none.
    public init?(_ line: some Collection<UInt8>) {
        let parts = line.split(
            separator: UInt8(ascii: " "), maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4,
            let stream = OutputStream(rawValue: String(decoding: parts[1], as: UTF8.self))
        else { return nil }
        self.time = String(decoding: parts[0], as: UTF8.self)
        self.stream = stream
        self.text = Array(parts[3])
        if parts[2].elementsEqual("F".utf8) { self.text.append(UInt8(ascii: "\n")) }
    }
}
