import Glibc
import LinuxSystem

/// A program run to its end, its lines heard as they come.
struct Tool {
    var how: Spawn
    /// What it does, for errors, e.g. `unpack debian:12`.
    var task: String
    var time: Duration

    init(_ how: Spawn, task: String, time: Duration) {
        self.how = how
        self.task = task
        self.time = time
        self.how.deathSignal = SIGKILL  // a killed hull leaves no fetch behind; `spawn` runs on the loop's thread
        self.how.noNewPrivileges = true
    }

    /// Runs it; `line` gets each line of its standard output. Cancelling the task, or the end of `time`, kills it.
    @Loop
    func run(line: @escaping @Loop @Sendable (Substring) -> Void = { _ in }) async throws -> Ending {
        let (child, ends) = try start()
        let timer = Task { @Loop in
            try await sleep(for: time)
            child.signal(SIGKILL)
            return true
        }
        defer { timer.cancel() }
        let output = try await withTaskCancellationHandler {
            async let complaints = Self.lines(ends.error, keep: 1 << 16) { _ in }
            let collected = try await Self.lines(ends.output, keep: documentRoom, line)
            let status = try await child.wait()
            return Ending(status: status, standardOutput: collected, standardError: try await complaints)
        } onCancel: {
            child.signal(SIGKILL)
        }
        try Task.checkCancellation()
        timer.cancel()
        if output.status == .signal(SIGKILL), case .success(true) = await timer.result {
            throw ImageError(.failed, "\(task): it did not end within \(time)")
        }
        return output
    }

    @Loop
    private func start() throws -> (ChildProcess, (output: SharedDescriptor, error: SharedDescriptor)) {
        let nothing = SharedDescriptor(try openFile("/dev/null", O_RDONLY))
        let output = try makePipe()
        let error = try makePipe()
        var how = how
        how.descriptors += [(nothing, 0), (output.write, 1), (error.write, 2)]
        let child = try how.spawn()
        for end in [output.read, error.read] { try setNonBlocking(end.raw) }
        return (child, (output.read, error.read))
    }

    /// Reads to the end, keeping at most `keep` bytes.
    @Loop
    private static func lines(_ end: SharedDescriptor, keep: Int, _ line: @escaping @Loop @Sendable (Substring) -> Void)
        async throws
        -> [UInt8]
    {
        var all: [UInt8] = []
        var pending: [UInt8] = []
        while true {
            let chunk = try await readSome(end.raw)
            if chunk.isEmpty { return all }
            all += chunk.prefix(max(0, keep - all.count))
            for byte in chunk {
                if byte != UInt8(ascii: "\n") {
                    if pending.count < 65536 { pending.append(byte) }
                } else {
                    line(Substring(decoding: pending, as: UTF8.self))
                    pending.removeAll(keepingCapacity: true)
                }
            }
        }
    }
}

/// The room for what a program says: a manifest or config, and a bit more, so that one that is too long shows.
let documentRoom = (8 << 20) + 1

/// What a program left.
struct Ending: Sendable {
    var status: ExitStatus
    var standardOutput: [UInt8]
    var standardError: [UInt8]

    /// Standard error as text, trimmed: for error sentences.
    var complaint: String {
        var text = Substring(String(decoding: standardError, as: UTF8.self))
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }

    /// Whether the program had no room on a disk.
    var saysDiskFull: Bool {
        let text = String(decoding: standardError, as: UTF8.self).lowercased()
        return text.contains("no space left on device") || text.contains("disk quota exceeded")
    }
}
