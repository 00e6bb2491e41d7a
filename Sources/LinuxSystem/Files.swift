import CLinux
import Glibc

/// The whole content of a file, of at most `limit` bytes.
public func readFile(_ path: String, limit: Int = 256 << 20) throws(SystemError) -> [UInt8] {
    let file = try openFile(path, O_RDONLY)
    return try readFile(file.raw, path, limit: limit)
}

/// The rest of an open file, of at most `limit` bytes.
public func readFile(_ raw: Int32, _ name: String, limit: Int = 256 << 20) throws(SystemError)
    -> [UInt8]
{
    var all: [UInt8] = []
    while true {
        var failure: Int32 = 0
        let chunk = [UInt8](unsafeUninitializedCapacity: 65536) { buffer, count in
            var got: Int
            repeat { got = read(raw, buffer.baseAddress, 65536) } while got < 0 && errno == EINTR
            failure = got < 0 ? errno : 0
            count = max(0, got)
        }
        if failure != 0 { throw SystemError("read", name, code: failure) }
        if chunk.isEmpty { return all }
        all += chunk
        if all.count > limit { throw SystemError("read", name, code: EFBIG) }
    }
}

/// A file as text.
public func readText(_ path: String) throws(SystemError) -> String {
    String(decoding: try readFile(path), as: UTF8.self)
}

/// Where the symbolic link at `path` leads (readlink(2)), as one of /proc shows it too; nil where there is none that can be read.
public func readLink(_ path: String) -> String? {
    let target = [UInt8](unsafeUninitializedCapacity: Int(PATH_MAX)) { buffer, count in
        count = max(0, buffer.withMemoryRebound(to: CChar.self) { readlink(path, $0.baseAddress!, $0.count) })
    }
    return target.isEmpty ? nil : String(decoding: target, as: UTF8.self)
}

/// Writes `bytes` over what `path` holds, e.g. a file of /proc or /sys. Not atomic: see `replaceFile`.
public func writeFile(
    _ path: String, _ bytes: [UInt8], flags: Int32 = 1 /* O_WRONLY */, mode: UInt32 = 0o600
) throws(SystemError) {
    let file = try openFile(path, flags, mode: mode)
    try writeFile(file.raw, path, bytes)
}

/// Writes all `bytes` to an open, blocking file.
public func writeFile(_ raw: Int32, _ name: String, _ bytes: [UInt8]) throws(SystemError) {
    var offset = 0
    while offset < bytes.count {
        offset += try checked("write", name) {
            bytes.withUnsafeBytes { write(raw, $0.baseAddress! + offset, $0.count - offset) }
        }
    }
}

/// Replaces the file at `path` whole: written beside it, then renamed over it. A reader sees the old or the new.
public func replaceFile(
    _ path: String, _ bytes: [UInt8], mode: UInt32 = 0o600, durable: Bool = false
) throws(SystemError) {
    let beside = "\(path).new-\(getpid())"
    do {
        let file = try openFile(beside, O_WRONLY | O_CREAT | O_TRUNC, mode: mode)
        try writeFile(file.raw, path, bytes)
        if durable { try checked("sync", path) { fsync(file.raw) } }
        try checked("rename", path) { rename(beside, path) }
    } catch {
        unlink(beside)
        throw error
    }
}

/// A file that is replaced whole (`replaceFile`), also on a full disk: a spare file beside it keeps the room for one more content.
public struct SparedFile: Sendable {
    public let path: String
    /// Bytes that there is always room for. Bigger contents need room on the disk.
    public let room: Int

    private var spare: String { "\(path).spare" }

    public init(_ path: String, room: Int = 16384) {
        self.path = path
        self.room = room
    }

    /// Replaces the content, making the file and its spare where they are missing. Throws when the disk is full and the spare one is
    /// used up, or too small.
    public func replace(_ bytes: [UInt8]) throws(SystemError) {
        do {
            try replaceFile(path, bytes)
            if !exists(spare) { try replaceFile(spare, padded([])) }
        } catch {
            guard error.code == ENOSPC || error.code == EDQUOT, bytes.count <= room, exists(spare) else { throw error }
            // Written in place: nothing is asked of the disk. JSON may end in spaces.
            try writeFile(spare, padded(bytes))
            try checked("rename", path) { rename(spare, path) }
        }
    }

    private func padded(_ bytes: [UInt8]) -> [UInt8] {
        bytes + [UInt8](repeating: UInt8(ascii: " "), count: max(0, room - bytes.count))
    }
}

/// Makes `path` and the folders above it that are missing.
public func makeDirectories(_ path: String, mode: UInt32 = 0o700) throws(SystemError) {
    if mkdir(path, mode) == 0 || errno == EEXIST { return }
    guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
        throw SystemError("make the folder", path)
    }
    try makeDirectories(String(path[..<slash]), mode: 0o711)
    if mkdir(path, mode) != 0 && errno != EEXIST { throw SystemError("make the folder", path) }
}

/// The names in a folder, without `.` and `..`, sorted.
public func listDirectory(_ path: String) throws(SystemError) -> [String] {
    guard let directory = opendir(path) else { throw SystemError("list", path) }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}

/// Removes `path` and all below it, following no link and crossing into no other filesystem. Missing is no error.
public func removeTree(_ path: String) throws(SystemError) {
    var status = stat()
    if lstat(path, &status) != 0 {
        if errno == ENOENT || errno == ENOTDIR { return }
        throw SystemError("look at", path)
    }
    for attempt in 0... {
        do {
            return try removeTree(AT_FDCWD, path, path, device: status.st_dev)
        } catch {
            // Somebody put something into it after it was listed, e.g. a lock's file, by trying the lock.
            if error.code != ENOTEMPTY || attempt == 100 { throw error }
        }
    }
}

private func removeTree(_ parent: Int32, _ name: String, _ path: String, device: dev_t)
    throws(SystemError)
{
    if unlinkat(parent, name, 0) == 0 || errno == ENOENT { return }
    guard errno == EISDIR || errno == EPERM else { throw SystemError("remove", path) }
    let raw = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    // Somebody else may be removing the same tree.
    if raw < 0 && errno == ENOENT { return }
    let directory = OwnedDescriptor(owning: try checked("open", path) { raw })
    var status = stat()
    try checked("look at", path) { fstat(directory.raw, &status) }
    if status.st_dev != device {
        throw SystemError("remove (another filesystem is mounted there)", path, code: EBUSY)
    }
    guard let stream = fdopendir(dup(directory.raw)) else { throw SystemError("list", path) }
    var names: [String] = []
    while let entry = readdir(stream) {
        names.append(
            withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            })
    }
    closedir(stream)
    for child in names where child != "." && child != ".." {
        try removeTree(directory.raw, child, "\(path)/\(child)", device: device)
    }
    if unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT { throw SystemError("remove", path) }
}

/// Whether something is at `path` (a dangling link is something).
public func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
}

/// A lock on a file (an open file description lock, fcntl_locking(2)), which the kernel gives back when its last holder dies.
/// Whether it is held can be asked without taking it.
public final class FileLock: Sendable {
    private let descriptor: SharedDescriptor
    private init(_ descriptor: SharedDescriptor) { self.descriptor = descriptor }

    /// The number, for a child that is to hold the lock on.
    public var raw: Int32 { descriptor.raw }

    /// Takes the lock if nobody else holds it, else nil. The file is made when it is missing.
    public static func attempt(_ path: String, shared: Bool = false) throws(SystemError) -> FileLock? {
        let descriptor = SharedDescriptor(try openFile(path, O_RDWR | O_CREAT))
        while hull_lock(descriptor.raw, shared ? 1 : 0, 0) != 0 {
            if errno == EAGAIN || errno == EACCES { return nil }
            if errno != EINTR { throw SystemError("lock", path) }
        }
        return FileLock(descriptor)
    }

    /// Takes the lock, blocking the thread until it is free: only for locks that are held for milliseconds.
    public static func acquire(_ path: String, shared: Bool = false) throws(SystemError) -> FileLock {
        let descriptor = SharedDescriptor(try openFile(path, O_RDWR | O_CREAT))
        try checked("lock", path) { hull_lock(descriptor.raw, shared ? 1 : 0, 1) }
        return FileLock(descriptor)
    }

    /// Whether somebody holds the lock; a missing file is held by nobody.
    public static func isHeld(_ path: String) -> Bool {
        guard let file = try? openFile(path, O_RDWR) else { return false }  // no file, no holder
        return hull_lock_is_held(file.raw) == 1
    }
}
