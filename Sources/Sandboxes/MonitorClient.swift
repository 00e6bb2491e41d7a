import Glibc
public import LinuxSystem

/// A verb's side of a connection to a monitor.
@Loop
public final class MonitorClient {
    private let channel: Channel

    /// Talks over a connection that is there already.
    public init(_ socket: SharedDescriptor) { channel = Channel(socket) }

    /// Connects to the monitor of `container`. Throws when the container does not run.
    public convenience init(to container: Container) throws {
        self.init(try Self.connect(container))
    }

    private static func connect(_ container: Container) throws -> SharedDescriptor {
        do {
            return try UnixSocket.connect(container.paths.socket)
        } catch {
            guard error.code == ENOENT || error.code == ECONNREFUSED else { throw error }
            throw SandboxError("container \(container.name) is not running", exitCode: 1)
        }
    }

    /// Asks; the descriptors go along.
    public func ask(_ verb: Request.Verb, descriptors: [Int32] = []) async throws {
        try await channel.send(Request(verb), descriptors: descriptors)
    }

    /// Says something later on.
    public func say(_ later: Later) async throws { try await channel.send(later) }

    /// Waits for the next answer. A monitor that is gone is an error that says so.
    public func answer() async throws -> Reply {
        guard let (reply, _) = try await channel.receive(Reply.self) else {
            throw SandboxError(
                "the container's monitor ended without an answer: `hull inspect` shows its state, monitor.log in its folder why",
                exitCode: 137)
        }
        return reply
    }

    /// Waits for `done`; anything else is thrown.
    public func expectDone() async throws {
        switch try await answer() {
        case .done: return
        case .failed(let sentence, let code): throw SandboxError(sentence, exitCode: code)
        case .exited, .outputClosed, .processes, .document:
            throw SandboxError("the monitor gave an answer that does not fit the question")
        }
    }

    /// Waits for the end of what was started. Throws `OutputClosed` when our output's reader has gone.
    public func expectExit() async throws -> (code: Int32, oomKilled: Bool) {
        while true {
            switch try await answer() {
            case .exited(let code, let oomKilled): return (code, oomKilled)
            case .failed(let sentence, let code): throw SandboxError(sentence, exitCode: code)
            case .outputClosed: throw OutputClosed()
            case .done, .processes, .document: continue
            }
        }
    }
}

/// Nobody reads the output of a verb that is attached. A program that wrote by itself would get SIGPIPE; the verb ends as if it had.
public struct OutputClosed: HullError {
    public let sentence = "nobody reads the output any more; the container runs on"
    public let exitCode: Int32 = 128 + SIGPIPE
}
