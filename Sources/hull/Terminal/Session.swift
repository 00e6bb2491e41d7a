import Glibc
import LinuxSystem
import Sandboxes

/// What was asked for never began; the cause says why.
struct NeverStarted: Error {
    var cause: any Error
}

/// A verb that stays with a process until it ends: its streams, its window, its signals. Without a terminal the monitor gets our
/// own streams and nothing is between; with one, bytes pass through here, for the keys that detach.
@Loop
final class Session {
    private let client: MonitorClient
    private let monitor: ChildProcess?
    private let terminal: Bool
    private let input: Bool
    private let detachKeys: DetachKeys

    /// `monitor` is the process to be ended where the user wants the end before anything began.
    init(_ client: MonitorClient, monitor: ChildProcess? = nil, terminal: Bool, input: Bool, detachKeys: DetachKeys) {
        self.client = client
        self.monitor = monitor
        self.terminal = terminal
        self.input = input
        self.detachKeys = detachKeys
    }

    /// Asks what `verb` makes of the streams, and stays until the end. Returns the exit code.
    func run(_ verb: (Streams) -> Request.Verb) async throws -> Int32 {
        do {
            return terminal ? try await runWithTerminal(verb) : try await runPlain(verb)
        } catch let closed as OutputClosed {
            return closed.exitCode
        }
    }

    private func runPlain(_ verb: (Streams) -> Request.Verb) async throws -> Int32 {
        let signals = try Signals([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2])
        var streams = Streams()
        let stdin = input ? try StandardStream.handable(0, writing: false) : nil
        let stdout = try StandardStream.handable(1, writing: true)
        let stderr = try StandardStream.handable(2, writing: true)
        streams.input = stdin != nil
        streams.ownsInput = true
        streams.output = stdout != nil
        streams.error = stderr != nil
        try await begin(verb(streams), [stdin, stdout, stderr], signals)
        let passing = passOn(signals)
        defer { passing.cancel() }
        return try await client.expectExit().code
    }

    private func runWithTerminal(_ verb: (Streams) -> Request.Verb) async throws -> Int32 {
        let signals = try Signals([SIGWINCH, SIGINT, SIGTERM, SIGHUP])
        let window = Terminal.size(0) ?? Terminal.size(1)
        var streams = Streams()
        streams.rows = window?.rows
        streams.columns = window?.columns
        streams.input = input
        // Our end of the pipe closes when we detach or die; a terminal's end it is not.
        streams.ownsInput = false
        streams.output = true
        let user = input ? Terminal(0) : nil
        if input, user == nil {
            throw SandboxError("the input device is not a terminal: drop -t, or run hull from a terminal")
        }
        let (typed, shown) = try await beginWithPipes(verb(streams), signals)
        return try await relay(signals, user, typed: typed, shown: shown)
    }

    /// Our ends of two pipes whose other ends the monitor has. A function of its own: no copy of theirs may stay here, or what is
    /// shown never ends.
    private func beginWithPipes(_ verb: Request.Verb, _ signals: Signals) async throws -> (
        typed: SharedDescriptor?, shown: SharedDescriptor
    ) {
        let typed = try makePipe(nonBlocking: true)
        let shown = try makePipe(nonBlocking: true)
        try await begin(verb, [input ? typed.read : nil, shown.write], signals)
        return (input ? typed.write : nil, shown.read)
    }

    private func relay(
        _ signals: Signals, _ user: Terminal?, typed: SharedDescriptor?, shown: SharedDescriptor
    ) async throws -> Int32 {
        try user?.makeRaw()
        defer { user?.restore() }
        let passing = passOn(signals)
        let screen = Task { @Loop in try await Self.copyOut(from: shown) }
        let client = client
        let ended = Task { @Loop in try await client.expectExit().code }
        let detachKeys = detachKeys
        let typing = Task { @Loop in
            var keys = detachKeys
            guard let typed, let source = try StandardStream.handable(0, writing: false) else {
                return false
            }
            while true {
                let bytes = try await readSome(source.raw, capacity: 4096)
                if bytes.isEmpty { return false }
                let (pass, left) = keys.filter(bytes)
                if !pass.isEmpty { try await writeAll(typed.raw, pass) }
                if left {
                    ended.cancel()
                    return true
                }
            }
        }
        defer {
            passing.cancel()
            typing.cancel()
            screen.cancel()
        }
        do {
            let code = try await ended.value
            // The monitor wrote everything before it told the end; it is in the pipe.
            _ = await screen.result
            return code
        } catch {
            guard ended.isCancelled, case .success(true) = await typing.result else { throw error }
            user?.restore()
            Complaint.remark("detached; the container runs on")
            return 0
        }
    }

    private func begin(_ verb: Request.Verb, _ descriptors: [SharedDescriptor?], _ signals: Signals) async throws {
        let client = client
        let monitor = monitor
        let began = Task { @Loop in
            try await client.ask(verb, descriptors: descriptors.compactMap { $0?.raw })
            withExtendedLifetime(descriptors) {}
            try await client.expectDone()
        }
        // A machine takes its time to boot, and a guest may be silent: the user need not wait for either.
        let interruption = Task { @Loop in
            while true {
                let signal = try await signals.next()
                if signal == SIGWINCH { continue }
                guard let monitor else {
                    began.cancel()
                    return signal
                }
                monitor.signal(SIGTERM)
            }
        }
        defer { interruption.cancel() }
        do {
            try await began.value
        } catch {
            guard began.isCancelled, case .success(let signal) = await interruption.result else {
                throw NeverStarted(cause: error)
            }
            throw SandboxError("interrupted before it began", exitCode: 128 + signal)
        }
    }

    /// Signals to us are signals to the process; a new window size is its new window size.
    private func passOn(_ signals: Signals) -> Task<Void, any Error> {
        let client = client
        return Task { @Loop in
            while true {
                let signal = try await signals.next()
                if signal == SIGWINCH {
                    if let size = Terminal.size(0) ?? Terminal.size(1) {
                        try await client.say(.resize(rows: size.rows, columns: size.columns))
                    }
                } else {
                    try await client.say(.signal(signal))
                }
            }
        }
    }

    private static func copyOut(from shown: SharedDescriptor) async throws {
        guard let screen = try StandardStream.handable(1, writing: true) else { return }
        while true {
            let bytes = try await readSome(shown.raw)
            if bytes.isEmpty { return }
            try await writeAll(screen.raw, bytes)
        }
    }
}
