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
    func run(line: @escaping @Loop @Sendable (Substring) -> Void = { _ in }) async throws -> Output {
        let lines = Lines(line)
        do {
            return try await withDeadline(time, awaiting: "its end") { [how] in
                try await how.run(limit: documentRoom) { lines.take($0) }
            }
        } catch is DeadlineError {
            throw ImageError(.failed, "\(task): it did not end within \(time)")
        }
    }
}

/// Finds the lines of what comes in pieces.
@Loop
private final class Lines {
    private let tell: @Loop @Sendable (Substring) -> Void
    private var pending: [UInt8] = []

    init(_ tell: @escaping @Loop @Sendable (Substring) -> Void) { self.tell = tell }

    func take(_ bytes: [UInt8]) {
        for byte in bytes {
            if byte != UInt8(ascii: "\n") {
                if pending.count < 65536 { pending.append(byte) }
            } else {
                tell(Substring(decoding: pending, as: UTF8.self))
                pending.removeAll(keepingCapacity: true)
            }
        }
    }
}

/// The room for what a program says: a manifest or config, and a bit more, so that one that is too long shows.
let documentRoom = (8 << 20) + 1

extension Output {
    /// Whether the program had no room on a disk.
    var saysDiskFull: Bool {
        let text = String(decoding: standardError, as: UTF8.self).lowercased()
        return text.contains("no space left on device") || text.contains("disk quota exceeded")
    }
}
