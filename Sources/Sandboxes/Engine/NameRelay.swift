import AgentClient
import CLinux
import Glibc
import LinuxSystem

/// The host's end of the relay of name queries: an engine's resolver listens at a loopback address of the container's network namespace,
/// where the monitor lives and the guest does not. What is asked in the guest is asked again here.
@Loop
final class NameRelay {
    private let process: GuestProcess
    private let server: String
    /// Slots from here on are TCP connections of the guest.
    private static let connections = 256
    private var underWay = 0

    /// Carries what the relay `process` reads at `server`'s port 53.
    init(_ process: GuestProcess, server: String) {
        self.process = process
        self.server = server
    }

    /// Runs until the relay's end.
    func run() async {
        var pending: [UInt8] = []
        while let bytes = await process.readOutput(.stdout) {
            pending += bytes
            while pending.count >= 4 {
                let count = Int(pending[0]) | Int(pending[1]) << 8
                let slot = Int(pending[2]) | Int(pending[3]) << 8
                guard pending.count >= 4 + count else { break }
                let query = Array(pending[4..<4 + count])
                pending.removeFirst(4 + count)
                // A guest that asks and asks waits, or asks in vain: so do resolvers.
                guard underWay < 64 else { continue }
                underWay += 1
                Task { @Loop in
                    defer { self.underWay -= 1 }
                    // A server that does not answer is an asker's own deadline.
                    guard let answer = try? await self.ask(query, overTCP: slot >= Self.connections) else { return }
                    let head = [answer.count & 255, answer.count >> 8, slot & 255, slot >> 8].map { UInt8($0) }
                    try? await self.process.write(head + answer)  // the relay's end
                }
            }
        }
    }

    private func ask(_ query: [UInt8], overTCP: Bool) async throws -> [UInt8] {
        let kind = Int32((overTCP ? SOCK_STREAM : SOCK_DGRAM).rawValue) | O_CLOEXEC | O_NONBLOCK
        let raw = try checked("ask a name server") {
            Glibc.socket(AF_INET, kind, 0)
        }
        let socket = SharedDescriptor(owning: raw)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(53).bigEndian
        inet_pton(AF_INET, server, &address.sin_addr)
        let result = withUnsafePointer(to: &address) { hull_connect(raw, $0, UInt32(MemoryLayout<sockaddr_in>.size)) }
        if result != 0, errno != EINPROGRESS { throw SystemError("ask the name server", server) }
        return try await withDeadline(.seconds(15), awaiting: "a name server's answer") {
            if overTCP {
                try await writable(socket.raw)
                try await writeAll(socket.raw, [UInt8(query.count >> 8), UInt8(query.count & 255)] + query)
                var all: [UInt8] = []
                while true {
                    let more = try await readSome(socket.raw)
                    if more.isEmpty { throw SystemError("read a name server's answer", code: ECONNRESET) }
                    all += more
                    if all.count >= 2, all.count >= 2 + (Int(all[0]) << 8 | Int(all[1])) { return Array(all.dropFirst(2)) }
                }
            }
            try await writeAll(socket.raw, query)
            return try await readSome(socket.raw)
        }
    }
}
