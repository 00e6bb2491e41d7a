import CLinux
import Glibc
public import LinuxSystem

/// A network namespace, held open by a descriptor (network_namespaces(7)).
public struct NetworkNamespace: Sendable {
    /// The open namespace, e.g. for `Spawn.networkNamespace`.
    public let descriptor: SharedDescriptor

    /// The namespace behind `path`, e.g. `/run/netns/name` or `/proc/PID/ns/net`.
    public init(path: String) throws(SystemError) {
        descriptor = SharedDescriptor(try openFile(path, O_RDONLY))
    }

    /// The one that the calling thread is in.
    public static func current() throws(SystemError) -> NetworkNamespace {
        try NetworkNamespace(path: "/proc/thread-self/ns/net")
    }

    /// A new one, which lives as long as something holds it; its loopback is down. Needs CAP_SYS_ADMIN.
    public static func make() throws(SystemError) -> NetworkNamespace {
        let home = try current()
        try checked("make a network namespace") { hull_unshare(CLONE_NEWNET) }
        defer { home.enter() }
        return try current()
    }

    /// Runs `body` with the calling thread inside the namespace, and brings the thread back whatever happens: sockets
    /// and tun devices that `body` opens belong to the namespace, and /proc/sys/net shows it. `body` is synchronous, so
    /// nothing else runs on the thread meanwhile. Needs CAP_SYS_ADMIN.
    public func inside<R>(_ body: () throws -> R) throws -> R {
        let home = try Self.current()
        try checked("enter a network namespace") { hull_setns(descriptor.raw, CLONE_NEWNET) }
        defer { home.enter() }
        return try body()
    }

    /// The namespace's inode: two descriptors of one namespace have the same.
    public func identifier() throws(SystemError) -> UInt64 {
        var status = stat()
        try checked("look at a network namespace") { fstat(descriptor.raw, &status) }
        return UInt64(status.st_ino)
    }

    /// A thread left in another namespace would do the process's further work there: better no process.
    private func enter() {
        guard hull_setns(descriptor.raw, CLONE_NEWNET) == 0 else {
            fatalError("cannot return to the network namespace: \(String(cString: strerror(errno)))")
        }
    }
}
