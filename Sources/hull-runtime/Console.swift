import CLinux
import Glibc
import LinuxSystem
import Sandboxes

/// The host's side of a container's terminal: the engine has the master, Hull relays the slave. The guest's terminal edits lines; this
/// one passes every byte on.
struct Console: Sendable {
    let slave: SharedDescriptor

    /// Opens one, and hands its master to whoever listens at `socket`.
    @Loop static func open(for socket: String, rows: UInt16?, columns: UInt16?) async throws -> Console {
        let master = SharedDescriptor(try openFile("/dev/ptmx", O_RDWR | O_NOCTTY))
        try checked("unlock a terminal") { hull_ioctl_pty_unlock(master.raw) }
        let slave = SharedDescriptor(
            owning: try checked("open a terminal") { hull_ioctl_pty_peer(master.raw, O_RDWR | O_NOCTTY | O_CLOEXEC) })
        try Terminal(slave.raw)?.makeRaw()
        if let rows, let columns { _ = hull_ioctl_set_window_size(slave.raw, rows, columns) }
        let connection: SharedDescriptor
        do { connection = try UnixSocket.connect(socket) } catch {
            throw SandboxError("the console socket \(socket) cannot be reached", exitCode: 1, cause: error)
        }
        try await connection.send(Array("/dev/ptmx".utf8), descriptors: [master.raw])
        return Console(slave: slave)
    }
}
