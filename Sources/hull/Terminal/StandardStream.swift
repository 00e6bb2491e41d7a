import Glibc
import LinuxSystem

/// One of our own three streams, as something that can be handed to a monitor: an open file of its own, because non-blocking
/// is a property of the open file, which we share with the shell that started us.
enum StandardStream {
    /// What to hand over; nil when the stream is closed.
    static func handable(_ number: Int32, writing: Bool) throws -> SharedDescriptor? {
        var status = stat()
        guard fstat(number, &status) == 0 else { return nil }
        switch status.st_mode & S_IFMT {
        case S_IFREG, S_IFDIR, S_IFBLK:
            return SharedDescriptor(
                owning: try checked("duplicate a stream") { fcntl(number, F_DUPFD_CLOEXEC, 3) })
        case S_IFSOCK: return try shared(number)
        default:
            let flags = (writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY
            let opened = open("/proc/self/fd/\(number)", flags | O_CLOEXEC)
            // A pipe that nobody reads any more: another such pipe, so that who writes is told.
            if opened < 0 && errno == ENXIO && writing { return try makePipe(nonBlocking: true).write }
            // A device that is open once only (a virtio port: EBUSY), or another user's terminal.
            if opened < 0 && [EBUSY, EACCES, EPERM].contains(errno) { return try shared(number) }
            return SharedDescriptor(owning: try checked("open a standard stream anew") { opened })
        }
    }

    /// The same open file, where it cannot be opened anew; who shares it must cope, as with every event loop.
    private static func shared(_ number: Int32) throws -> SharedDescriptor {
        let copy = SharedDescriptor(owning: try checked("duplicate a stream") { fcntl(number, F_DUPFD_CLOEXEC, 3) })
        try setNonBlocking(copy.raw)
        return copy
    }
}
