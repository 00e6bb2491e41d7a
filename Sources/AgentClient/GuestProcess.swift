import AgentProtocol
public import LinuxSystem

/// A process in the guest. Its streams and its end arrive here; output that nobody reads stops the process by want of
/// credit, and nothing else.
@Loop
public final class GuestProcess {
    /// One of the outputs. A terminal has only `stdout`.
    public enum Output: Sendable {
        case stdout
        case stderr
    }

    /// Output that arrived and was not read yet, at most a window.
    private struct Arrived {
        var chunks: [[UInt8]] = []
        var first = 0
        var ended = false

        mutating func pop() -> [UInt8]? {
            guard first < chunks.count else { return nil }
            let chunk = chunks[first]
            chunks[first] = []
            first += 1
            if first == chunks.count {
                chunks.removeAll(keepingCapacity: true)
                first = 0
            }
            return chunk
        }
    }

    /// The host's number for it.
    public let number: UInt64
    /// Its pid in the guest.
    public internal(set) var pid: Int32
    /// Whether the kernel killed it for want of memory; known after its end.
    public private(set) var outOfMemory = false

    private let connection: AgentConnection
    private var output = Arrived()
    private var error = Arrived()
    private var status: ExitStatus?
    private var readsInput = true
    private var failure: AgentConnectionError?
    let changed = Gate()

    init(_ number: UInt64, pid: Int32, _ connection: AgentConnection) {
        self.number = number
        self.pid = pid
        self.connection = connection
    }

    /// Gives the process bytes to read; returns when all of them are on their way, which waits for the process to take
    /// what it was given before. Returns whether it reads on: bytes for a process that has ended, or closed its input, are dropped.
    @discardableResult
    public func write(_ bytes: [UInt8]) async throws -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            if let failure { throw failure }
            if status != nil || !readsInput { return false }
            let count = connection.sendInput(number, rest)
            rest = rest.dropFirst(count)
            if count == 0 { try await changed.wait() }
        }
        return true
    }

    /// Ends the input; again does nothing.
    public func closeInput() async { await connection.sendInputEnd(number) }

    /// The next piece of an output; nil at its end, or when the stream to the guest broke (`wait` says that then), or when the
    /// task is cancelled. What was returned counts as taken: the process may write as much more.
    public func readOutput(_ which: Output) async -> [UInt8]? {
        while true {
            let chunk = which == .stdout ? output.pop() : error.pop()
            if let chunk {
                connection.take(number, which == .stdout ? .output : .error, chunk.count)
                return chunk
            }
            if which == .stdout ? output.ended : error.ended { return nil }
            do { try await changed.wait() } catch { return nil }
        }
    }

    /// What arrived of an output and was not read yet.
    public func unread(_ which: Output) -> [UInt8] {
        let arrived = which == .stdout ? output : error
        return Array(arrived.chunks[arrived.first...].joined())
    }

    /// Sends a signal. Throws `AgentFailure` with the code `unknown` when the process has ended.
    public func signal(_ signal: Int32) async throws {
        var request = SignalRequest()
        request.process = number
        request.signal = UInt32(bitPattern: signal)
        let _: Done = try await connection.ask(.signal, request)
    }

    /// Gives its terminal a size.
    public func resize(rows: UInt16, columns: UInt16) async throws {
        var request = ResizeRequest()
        request.process = number
        request.rows = UInt32(rows)
        request.columns = UInt32(columns)
        let _: Done = try await connection.ask(.resize, request)
    }

    /// Drops all further output in the guest, so that a process nobody listens to goes on.
    public func discardOutput() async throws {
        let _: Done = try await connection.ask(.closeProcess, ProcessReference(number))
    }

    /// Closes the reading end of an output in the guest, as the kernel does when a reader goes: the process gets SIGPIPE when it
    /// writes on. What is on its way still arrives. A terminal's output is dropped instead.
    public func closeOutput(_ which: Output) async throws {
        var reference = OutputReference()
        reference.process = number
        reference.isError = which == .stderr
        let _: Done = try await connection.ask(.closeOutput, reference)
    }

    /// How it ended; waits for that. All output arrived before, whether it was read or not.
    public func wait() async throws -> ExitStatus {
        while true {
            if let status { return status }
            if let failure { throw failure }
            try await changed.wait()
        }
    }

    // MARK: what the connection tells

    func arrived(_ stream: StreamKind, _ bytes: [UInt8]) {
        if stream == .output { output.chunks.append(bytes) } else { error.chunks.append(bytes) }
        changed.open()
    }

    func ended(_ stream: StreamKind) {
        if stream == .output { output.ended = true } else { error.ended = true }
        changed.open()
    }

    func closedInput() {
        readsInput = false
        changed.open()
    }

    func exited(_ exit: ProcessExit) {
        outOfMemory = exit.outOfMemory
        status =
            exit.signal != 0
            ? .signal(Int32(truncatingIfNeeded: exit.signal & 0x7F)) : .code(Int32(truncatingIfNeeded: exit.code & 0xFF))
        output.ended = true
        error.ended = true
        changed.open()
    }

    func broken(_ error: AgentConnectionError) {
        failure = error
        output.ended = true
        self.error.ended = true
        changed.open()
    }
}
