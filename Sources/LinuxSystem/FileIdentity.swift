import CLinux
import Glibc

/// What a file is known by without being read: a file that was replaced, written to, cut or given other rights has another one.
public struct FileIdentity: Codable, Hashable, Sendable {
    public var inode: UInt64
    /// Bytes.
    public var size: UInt64
    /// Nanoseconds since 1970: of the last write, and of the last change of any kind, which nobody can set.
    public var modified: Int64
    public var changed: Int64

    /// Of the file at `path`; links are followed.
    public init(_ path: String) throws(SystemError) {
        var status = stat()
        try checked("look at", path) { stat(path, &status) }
        self.init(status)
    }

    /// Of an open file.
    public init(_ file: SharedDescriptor, _ name: String) throws(SystemError) {
        var status = stat()
        try checked("look at", name) { fstat(file.raw, &status) }
        self.init(status)
    }

    private init(_ status: stat) {
        inode = UInt64(status.st_ino)
        size = UInt64(status.st_size)
        modified = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
        changed = Int64(status.st_ctim.tv_sec) * 1_000_000_000 + Int64(status.st_ctim.tv_nsec)
    }

    /// In one word, without the time of the last change: a new link to a program is no new program.
    public var text: String { "\(inode).\(size).\(modified)" }
}

/// Copies what `from` holds in `range` to the begin of `to`, and leaves holes holes (SEEK_DATA, lseek(2)). `to` is empty and long enough; what
/// is beyond the end of `from` is a hole.
public func copyData(
    from: SharedDescriptor, _ range: Range<Int>, to: SharedDescriptor, _ name: String
) throws(SystemError) {
    var place = range.lowerBound
    while place < range.upperBound {
        let start = lseek(from.raw, place, 3 /* SEEK_DATA */)
        if start < 0, errno == ENXIO { return }  // only a hole is left
        guard start >= 0 else { throw SystemError("read", name) }
        if start >= range.upperBound { return }
        let end = min(Int(try checked("read", name) { lseek(from.raw, start, 4 /* SEEK_HOLE */) }), range.upperBound)
        try checked("write", name) { lseek(to.raw, Int(start) - range.lowerBound, SEEK_SET) }
        var offset = off_t(start)
        while offset < end {
            let count = sendfile(to.raw, from.raw, &offset, end - Int(offset))
            if count > 0 || (count < 0 && errno == EINTR) { continue }
            throw SystemError("copy", name, code: count == 0 ? EIO : errno)
        }
        place = end
    }
}
