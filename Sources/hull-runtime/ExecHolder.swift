import CLinux
import Glibc
import LinuxSystem
import OCISpec
import Sandboxes

/// The process that stands for an exec on the host: it ends with the exec's code, and passes signals on. It is a copy of the verb, made
/// before anything else: starting a program would take a third of the time that an exec has.
enum ExecHolder {
    /// Which of the two this process is.
    enum Side {
        case holder(Report)
        case verb(holder: Int32, Report)
    }

    /// Parts the two.
    static func fork() throws -> Side {
        // Numbers and no owners: an owner's copy in the holder would close what has its number there.
        var ends: [Int32] = [-1, -1]
        try checked("make a pipe") { pipe2(&ends, O_CLOEXEC) }
        // None of the numbers of the standard streams, if those are closed.
        let lifted = ends.map { fcntl($0, F_DUPFD_CLOEXEC, 3) }
        for end in ends { close(end) }
        let pid = hull_fork_apart(lifted[1])
        if pid == 0 { return .holder(Report(SharedDescriptor(owning: 3))) }
        close(lifted[1])
        let report = Report(SharedDescriptor(owning: try checked("duplicate a descriptor") { lifted[0] }))
        if pid < 0 { throw SystemError("make a process", code: -pid) }
        return .verb(holder: pid, report)
    }

    /// What the holder says to the verb, once: that the process runs, or why it does not.
    struct Report: Sendable {
        private let end: SharedDescriptor
        init(_ end: SharedDescriptor) { self.end = end }

        func running() {
            write([0])
            // Nobody listens any more; by now our standard input is the null device.
            dup2(0, end.raw)
        }

        func failed(_ error: any Error) {
            let code = (error as? any HullError)?.exitCode ?? 1
            write([UInt8(truncatingIfNeeded: code == 0 ? 1 : code)] + Array("\(error)".utf8))
        }

        // The verb may be gone: its engine was killed.
        private func write(_ bytes: [UInt8]) { _ = Glibc.write(end.raw, bytes, bytes.count) }

        /// Waits for it.
        func read() throws {
            var said: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = Glibc.read(end.raw, &buffer, buffer.count)
                if count < 0, errno == EINTR { continue }
                if count <= 0 { break }
                said += buffer[..<count]
                if said == [0] { return }
            }
            guard let code = said.first else {
                throw SandboxError("the process that was to hold the exec ended at once", exitCode: 255)
            }
            throw SandboxError(String(decoding: said.dropFirst(), as: UTF8.self), exitCode: Int32(code))
        }
    }

    static func main(_ report: Report, id: String, _ arguments: Arguments, _ globals: Globals) -> Never {
        exit(Loop.run { await hold(report, id, arguments, globals) })
    }

    /// An exec whose process runs.
    private struct Exec: Sendable {
        var client: MonitorClient
        var terminal: SharedDescriptor?
        var signals: Signals
    }

    @Loop private static func hold(_ report: Report, _ id: String, _ arguments: Arguments, _ globals: Globals) async -> Int32 {
        do {
            let exec = try await begin(id, arguments, globals)
            let passing = Task { @Loop in
                // A size that came before anybody listened for one.
                try await exec.client.pass(SIGWINCH, terminal: exec.terminal)
                while true { try await exec.client.pass(try await exec.signals.next(), terminal: exec.terminal) }
            }
            defer { passing.cancel() }
            report.running()
            do { return try await exec.client.expectExit().code } catch { return 137 }
        } catch {
            report.failed(error)
            return 1
        }
    }

    @Loop private static func begin(_ id: String, _ arguments: Arguments, _ globals: Globals) async throws -> Exec {
        let signals = try Signals(EngineMonitor.passed + [SIGWINCH, SIGHUP])
        let container = try ExecVerb.container(id, globals)
        let process = try ExecVerb.settings(arguments, container)
        do {
            let (client, terminal) = try await ask(process, container, arguments)
            try await client.expectDone()
            return Exec(client: client, terminal: terminal, signals: signals)
        } catch let error as any HullError {
            throw SandboxError("exec failed: unable to start container process: \(error)", exitCode: 255)
        }
    }

    /// Asks the monitor, and keeps nothing that the verb was given.
    @Loop private static func ask(_ process: ProcessSpec, _ container: Container, _ arguments: Arguments) async throws -> (
        MonitorClient, terminal: SharedDescriptor?
    ) {
        var console: Console?
        let size = process.consoleSize
        if process.terminal == true {
            guard let socket = arguments["console-socket"] else {
                throw SandboxError("cannot allocate tty if runc will detach without setting console socket", exitCode: 1)
            }
            let opened = try await Console.open(for: socket, rows: size?.height, columns: size?.width)
            try checked("take the terminal") { hull_ioctl_take_terminal(opened.slave.raw) }
            console = opened
        }
        let streams =
            try console.map { try HandedStreams.terminal($0, rows: size?.height, columns: size?.width) } ?? HandedStreams.own()
        let client: MonitorClient
        do { client = MonitorClient(try UnixSocket.connect(container.paths.socket)) } catch {
            throw SandboxError("container not running", exitCode: 1)
        }
        try await client.ask(
            .engine(.exec(process, streams.streams, holder: getpid())), descriptors: streams.descriptors.map(\.raw))
        withExtendedLifetime(streams) {}
        let null = SharedDescriptor(try openFile("/dev/null", O_RDWR))
        for number: Int32 in 0...2 { try checked("let go of a stream") { dup2(null.raw, number) } }
        withExtendedLifetime(null) {}
        chdir("/")
        ProcessTitle.set(process.args ?? [])
        return (client, console?.slave)
    }
}
