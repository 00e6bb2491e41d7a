import AgentClient
import AgentProtocol
import Glibc
import LinuxSystem

/// Carries what comes to a container's Unix socket that stands for one of the host. The agent has the listener; each connection is a relay of
/// the agent's with streams like a process's, so that each has its own flow control and its ends are passed on one by one.
@Loop
final class SocketRelay {
    /// Connections of one socket at a time; further ones wait in the guest's queue.
    static let most = 64

    private let agent: AgentConnection
    private let container: String
    private let number: Int
    private let socket: HostSocket
    private let next: () -> UInt64
    private var live = 0
    private let room = Gate()
    private var waiting: GuestProcess?
    private var running: Task<Void, Never>?

    /// For socket `number` of the container; `next` gives numbers for the machine's processes.
    init(_ agent: AgentConnection, container: String, number: Int, _ socket: HostSocket, next: @escaping () -> UInt64) {
        self.agent = agent
        self.container = container
        self.number = number
        self.socket = socket
        self.next = next
    }

    /// Begins; the container has been made.
    func start() {
        running = Task { @Loop in
            do { try await socket.isDatagram ? carryMessages() : serve() } catch {
                // The container or its machine ended, or `stop` was called.
                if !Task.isCancelled, agent.failure == nil {
                    StandardStreams.complain("hull: \(socket.path) is relayed no longer: \(error)")
                }
            }
        }
    }

    /// Takes no further connection.
    func stop() {
        running?.cancel()
        let process = waiting
        Task { @Loop in try? await process?.signal(SIGKILL) }  // one that has ended needs none
    }

    private func relay() async throws -> GuestProcess {
        var configuration = ProcessConfiguration()
        configuration.process = next()
        configuration.container = container
        configuration.isExec = true
        configuration.relay = "socket:\(number)"
        configuration.wantsInput = true
        return try await agent.start(configuration)
    }

    private func serve() async throws {
        while true {
            while live >= Self.most { try await room.wait() }
            let process = try await relay()
            waiting = process
            guard let (uid, gid, rest) = await Self.head(of: process) else {
                try Task.checkCancellation()
                _ = try await process.wait()
                throw SandboxError("the agent's relay ended")
            }
            waiting = nil
            live += 1
            Task { @Loop in
                await self.carry(process, uid, gid, rest)
                self.live -= 1
                self.room.open()
            }
        }
    }

    /// Who connected, and what came with that.
    private static func head(of process: GuestProcess) async -> (uid: UInt32, gid: UInt32, rest: [UInt8])? {
        var bytes: [UInt8] = []
        while bytes.count < 8 {
            guard let more = await process.readOutput(.stdout) else { return nil }
            bytes += more
        }
        return (number(bytes), number(bytes.dropFirst(4)), Array(bytes.dropFirst(8)))
    }

    private static func number(_ bytes: some Sequence<UInt8>) -> UInt32 {
        bytes.prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }

    private func carry(_ process: GuestProcess, _ uid: UInt32, _ gid: UInt32, _ first: [UInt8]) async {
        let host: SharedDescriptor
        do { host = try await socket.connect(uid: uid, gid: gid) } catch {
            // Who connected in the guest finds the connection ended.
            try? await process.signal(SIGKILL)  // one that has ended needs none
            return
        }
        let up = Task { @Loop in
            var bytes: [UInt8]? = first
            while let some = bytes {
                do { try await writeAll(host.raw, some) } catch {
                    try? await process.closeOutput(.stdout)  // it has ended already
                    break
                }
                bytes = await process.readOutput(.stdout)
            }
            shutdown(host.raw, Int32(SHUT_WR))
        }
        let down = Task { @Loop in
            // A reset is an end.
            while let bytes = try? await readSome(host.raw), !bytes.isEmpty {
                guard (try? await process.write(bytes)) == true else { break }  // so is a guest that is gone
            }
            await process.closeInput()
        }
        do { _ = try await process.wait() } catch {
            // The machine ended.
        }
        down.cancel()
        await up.value
        await down.value
    }

    /// Messages go one way.
    private func carryMessages() async throws {
        var host = try await socket.connect(uid: 0, gid: 0)
        let process = try await relay()
        waiting = process
        var pending: [UInt8] = []
        while let bytes = await process.readOutput(.stdout) {
            pending += bytes
            while pending.count >= 4 {
                let count = Int(Self.number(pending))
                guard count <= 1 << 20 else { throw SandboxError("a message of \(count) bytes came from the guest") }
                guard pending.count >= 4 + count else { break }
                let message = Array(pending[4..<4 + count])
                pending.removeFirst(4 + count)
                do { try await send(message, host) } catch {
                    // Its owner began anew, or is gone; then messages are lost, as they would be without Hull.
                    guard let again = try? await socket.connect(uid: 0, gid: 0) else { continue }
                    host = again
                    try? await send(message, host)  // as above
                }
            }
        }
    }

    private func send(_ message: [UInt8], _ host: SharedDescriptor) async throws {
        while true {
            let sent = Glibc.send(host.raw, message, message.count, Int32(MSG_NOSIGNAL))
            if sent >= 0 { return }
            switch errno {
            case EINTR: continue
            case EAGAIN: try await writable(host.raw)
            default: throw SystemError("send a message")
            }
        }
    }
}

/// The relays of a container.
@Loop
struct SocketRelays {
    private let all: [SocketRelay]

    /// One for each socket among the mounts, started.
    init(_ agent: AgentConnection, container: String, _ mounts: [ResolvedMount], next: @escaping () -> UInt64) {
        all = mounts.enumerated().compactMap { number, mount in
            mount.socket.map { SocketRelay(agent, container: container, number: number, $0, next: next) }
        }
        for relay in all { relay.start() }
    }

    /// Takes no further connection.
    func stop() { for relay in all { relay.stop() } }
}
