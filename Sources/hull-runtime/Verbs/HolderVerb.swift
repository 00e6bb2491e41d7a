import Glibc
import LinuxSystem
import OCISpec
import Sandboxes

/// `holder SOCKET tty|-`: the process that stands for an exec on the host. Hull starts it itself; descriptor 3 is the verb that did, 4
/// the host's side of the terminal.
enum HolderVerb {
    static func main(_ words: [String]) -> Never {
        guard words.count == 3, fcntl(3, F_GETFD) >= 0 else {
            StandardStreams.complain("hull-runtime holder is started by hull-runtime itself: use exec")
            exit(1)
        }
        let code = Loop.run { () async -> Int32 in
            do { return try await hold(words[1], hasTerminal: words[2] == "tty") } catch { return 137 }
        }
        exit(code)
    }

    @Loop private static func hold(_ socket: String, hasTerminal: Bool) async throws -> Int32 {
        try setCloseOnExec(3, true)
        let verb = Channel(SharedDescriptor(owning: 3))
        let terminal = hasTerminal ? SharedDescriptor(owning: 4) : nil
        let signals = try Signals(EngineMonitor.passed + [SIGWINCH, SIGHUP])
        let client: MonitorClient
        do {
            guard let (order, descriptors) = try await verb.receive(HolderOrder.self) else { return 1 }
            do { client = MonitorClient(try UnixSocket.connect(socket)) } catch {
                throw SandboxError("container not running", exitCode: 1)
            }
            try await client.ask(
                .engine(.exec(order.process, order.streams, holder: getpid())), descriptors: descriptors.map(\.raw))
            withExtendedLifetime(descriptors) {}
            ProcessTitle.set(order.process.args ?? [])
        } catch {
            try await verb.send(Reply.failed(sentence: "\(error)", code: 1))
            return 1
        }
        do { try await client.expectDone() } catch {
            try await verb.send(Reply.failed(sentence: "\(error)", code: 1))
            return (error as? SandboxError)?.exitCode ?? 1
        }
        let passing = Task { @Loop in
            // A size that came before anybody listened for one.
            try await client.pass(SIGWINCH, terminal: terminal)
            while true { try await client.pass(try await signals.next(), terminal: terminal) }
        }
        defer { passing.cancel() }
        // The verb may be gone: its engine was killed.
        try? await verb.send(Reply.done)
        return try await client.expectExit().code
    }
}
