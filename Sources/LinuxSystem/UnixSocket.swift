import CLinux
import Glibc

/// A connected pair of Unix stream sockets.
public func makeSocketPair(nonBlocking: Bool = false) throws(SystemError) -> (
    SharedDescriptor, SharedDescriptor
) {
    var ends: [Int32] = [-1, -1]
    try checked("make a socket pair") {
        socketpair(
            AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC | (nonBlocking ? O_NONBLOCK : 0), 0, &ends)
    }
    return (SharedDescriptor(owning: ends[0]), SharedDescriptor(owning: ends[1]))
}

/// Unix stream sockets by path. A path longer than the 107 bytes of sun_path is reached through its folder's descriptor.
public enum UnixSocket {
    /// Listens at `path`, non-blocking; what was there before is removed first.
    public static func listen(_ path: String, mode: UInt32 = 0o600, backlog: Int32 = 128)
        throws(SystemError) -> SharedDescriptor
    {
        let socket = try open()
        unlink(path)
        try withAddress(path) { address, length throws(SystemError) in
            try checked("listen at", path) { hull_bind(socket.raw, address, length) }
        }
        try checked("set the mode of", path) { chmod(path, mode) }
        try checked("listen at", path) { Glibc.listen(socket.raw, backlog) }
        return socket
    }

    /// Connects to `path`; the socket is non-blocking. Throws ECONNREFUSED or ENOENT where nobody listens.
    public static func connect(_ path: String) throws(SystemError) -> SharedDescriptor {
        let socket = try open()
        try withAddress(path) { address, length throws(SystemError) in
            try checked("connect to", path) { hull_connect(socket.raw, address, length) }
        }
        return socket
    }

    /// Connects to the socket at an open place (O_PATH), as the user `uid` of the group `gid`, whom its owner sees. Non-blocking. Throws EPROTOTYPE
    /// where it is a socket of another kind.
    public static func connect(at place: SharedDescriptor, isDatagram: Bool, uid: UInt32 = 0, gid: UInt32 = 0)
        throws(SystemError) -> SharedDescriptor
    {
        let socket = try open(isDatagram ? SOCK_DGRAM : SOCK_STREAM)
        try withAddress("/proc/self/fd/\(place.raw)") { address, length throws(SystemError) in
            try checked("connect to a socket") { hull_connect_as(socket.raw, address, length, uid, gid) }
        }
        return socket
    }

    /// Whether somebody listens at the socket at an open place for connections that keep messages apart (SOCK_SEQPACKET): the only kind that
    /// cannot be known without connecting. Sockets of other kinds notice nothing.
    public static func keepsMessagesApart(at place: SharedDescriptor) -> Bool {
        do throws(SystemError) {
            let socket = try open(SOCK_SEQPACKET)
            try withAddress("/proc/self/fd/\(place.raw)") { address, length throws(SystemError) in
                try checked("connect to a socket") { hull_connect(socket.raw, address, length) }
            }
            return true
        } catch { return error.code == EAGAIN }
    }

    /// Waits for the next connection; it is non-blocking.
    public static func accept(_ listener: SharedDescriptor) async throws -> SharedDescriptor {
        while true {
            let descriptor = hull_accept(listener.raw)
            if descriptor >= 0 { return SharedDescriptor(owning: descriptor) }
            switch errno {
            case EAGAIN: try await readable(listener.raw)
            case EINTR, ECONNABORTED: continue
            default: throw SystemError("accept a connection")
            }
        }
    }

    private static func open(_ kind: __socket_type = SOCK_STREAM) throws(SystemError) -> SharedDescriptor {
        SharedDescriptor(
            owning: try checked("make a socket") {
                socket(AF_UNIX, Int32(kind.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
            })
    }

    private static func withAddress(
        _ path: String, _ body: (UnsafeRawPointer, UInt32) throws(SystemError) -> Void
    ) throws(SystemError) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var short = path
        var folder: SharedDescriptor?
        if path.utf8.count > 107, let slash = path.lastIndex(of: "/") {
            let held = SharedDescriptor(try openFile(String(path[..<slash]), O_PATH | O_DIRECTORY))
            short = "/proc/self/fd/\(held.raw)\(path[slash...])"
            folder = held
        }
        guard short.utf8.count <= 107 else {
            throw SystemError("use the socket path", path, code: ENAMETOOLONG)
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: short.utf8) }
        let result: Result<Void, SystemError> = withUnsafePointer(to: &address) { pointer in
            do throws(SystemError) {
                return .success(try body(UnsafeRawPointer(pointer), UInt32(MemoryLayout<sockaddr_un>.size)))
            } catch {
                return .failure(error)
            }
        }
        _ = folder
        try result.get()
    }
}

/// Messages with descriptors on a connected Unix socket (SCM_RIGHTS, unix(7)).
extension SharedDescriptor {
    /// Sends all `bytes`, the descriptors with the first of them.
    public func send(_ bytes: [UInt8], descriptors: [Int32] = []) async throws {
        var offset = 0
        while offset < bytes.count {
            let sent = bytes.withUnsafeBytes {
                hull_send_descriptors(
                    raw, $0.baseAddress! + offset, $0.count - offset, descriptors,
                    offset == 0 ? descriptors.count : 0, 0)
            }
            if sent >= 0 {
                offset += sent
            } else if sent == -Int(EAGAIN) {
                try await writable(raw)
            } else if sent != -Int(EINTR) {
                throw SystemError("send", code: Int32(-sent))
            }
        }
    }

    /// Waits for bytes, at most `capacity`, and takes the descriptors that come with them. Empty at the end.
    public func receive(capacity: Int) async throws -> (
        bytes: [UInt8], descriptors: [SharedDescriptor]
    ) {
        while true {
            var descriptors = [Int32](repeating: -1, count: 64)
            var count = descriptors.count
            var failure: Int32 = 0
            let bytes = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, used in
                let got = hull_receive_descriptors(
                    raw, buffer.baseAddress, capacity, &descriptors, &count, 0)
                failure = got < 0 ? Int32(-got) : 0
                used = max(0, got)
            }
            switch failure {
            case 0: return (bytes, descriptors[..<count].map { SharedDescriptor(owning: $0) })
            case EAGAIN: try await readable(raw)
            case EINTR: continue
            case ECONNRESET: return ([], [])
            default: throw SystemError("receive", code: failure)
            }
        }
    }
}
