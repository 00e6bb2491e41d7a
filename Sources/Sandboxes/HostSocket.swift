import AgentProtocol
import CLinux
import Glibc
import LinuxSystem

/// A Unix socket of the host that is mounted into a container. What connects to it in the guest is connected here (`SocketRelay`).
@Loop
final class HostSocket {
    /// Its path on the host; empty where only the open place is known.
    nonisolated let path: String
    /// The socket itself, as it was when the container was made.
    private var place: SharedDescriptor
    nonisolated let mode: UInt32
    nonisolated let uid: UInt32
    nonisolated let gid: UInt32
    /// Whether it takes messages (SOCK_DGRAM, as /dev/log does) and no connections.
    nonisolated let isDatagram: Bool

    /// The socket at `path`; nil where something else is there.
    convenience init?(_ path: String) throws {
        try self.init(at: SharedDescriptor(try openFile(path, O_PATH)), path: path)
    }

    /// The socket at an open place.
    init?(at place: SharedDescriptor, path: String = "") throws {
        var status = stat()
        try checked("look at", path) { fstat(place.raw, &status) }
        guard status.st_mode & S_IFMT == S_IFSOCK else { return nil }
        self.path = path
        self.place = place
        mode = status.st_mode & 0o7777
        uid = status.st_uid
        gid = status.st_gid
        // A message socket says nothing to its owner when it is connected; to one for connections this fails.
        do {
            _ = try UnixSocket.connect(at: place, isDatagram: true)
            isDatagram = true
        } catch {
            isDatagram = false
            if UnixSocket.keepsMessagesApart(at: place) {
                throw SandboxError(
                    "the socket \(path) keeps messages apart (SOCK_SEQPACKET), which cannot be relayed into a machine: leave its mount out",
                    exitCode: 1)
            }
        }
    }

    /// As the agent is told.
    nonisolated var configuration: SocketConfiguration {
        var configuration = SocketConfiguration()
        configuration.mode = mode
        configuration.uid = uid
        configuration.gid = gid
        configuration.isDatagram = isDatagram
        return configuration
    }

    /// A connection, as the guest's user. A server that began anew at the same path is found again.
    func connect(uid: UInt32, gid: UInt32) async throws -> SharedDescriptor {
        var tries = 0
        while true {
            do { return try UnixSocket.connect(at: place, isDatagram: isDatagram, uid: uid, gid: gid) } catch {
                tries += 1
                if error.code == ECONNREFUSED, !path.isEmpty, tries == 1 {
                    place = SharedDescriptor(try openFile(path, O_PATH))
                } else if error.code == EAGAIN, tries < 500 {
                    // "the listening socket's queue is full" (unix(7)): its owner is slow.
                    try await sleep(for: .milliseconds(20))
                } else {
                    throw error
                }
            }
        }
    }
}
