import CLinux
import Glibc

private func ready(_ descriptor: Int32, _ events: UInt32) async throws {
    let loop = Loop.executor
    let id = loop.newIdentifier()
    try await withTaskCancellationHandler {
        try Task.checkCancellation()
        try await withCheckedThrowingContinuation { loop.wait(descriptor, events, id, $0) }
    } onCancel: {
        loop.cancel(id, descriptor: descriptor)
    }
}

/// Waits until `descriptor` can be read, has hung up, or has an error. The caller keeps it open meanwhile.
/// Throws `CancellationError` when the task is cancelled.
public func readable(_ descriptor: Int32) async throws {
    try await ready(descriptor, EPOLLIN.rawValue | EPOLLRDHUP.rawValue)
}

/// Waits until `descriptor` can be written, has hung up, or has an error.
public func writable(_ descriptor: Int32) async throws {
    try await ready(descriptor, EPOLLOUT.rawValue)
}

/// Waits until the other end of `descriptor` is gone: for a pipe's writing end, its last reader.
public func hungUp(_ descriptor: Int32) async throws {
    // An error and a hang-up are always told: epoll_ctl(2).
    try await ready(descriptor, 0)
}

/// Whether `descriptor` is an end of a pipe without a name. To a FIFO, whoever left may come back.
public func isUnnamedPipe(_ descriptor: Int32) -> Bool {
    readLink("/proc/self/fd/\(descriptor)")?.hasPrefix("pipe:") == true
}

/// Waits for `duration` on the loop. Throws `CancellationError` when the task is cancelled.
public func sleep(for duration: Duration) async throws {
    let loop = Loop.executor
    let id = loop.newIdentifier()
    let deadline = ContinuousClock.now + duration
    try await withTaskCancellationHandler {
        try Task.checkCancellation()
        try await withCheckedThrowingContinuation { loop.sleep(until: deadline, id, $0) }
    } onCancel: {
        loop.cancel(id, descriptor: nil)
    }
}

/// A wait that took longer than it may.
public struct DeadlineError: HullError {
    /// What was awaited.
    public var awaited: String
    /// How long.
    public var duration: Duration
    public var sentence: String { "\(awaited) did not come within \(duration)" }
}

/// Runs `body`, and cancels it with a `DeadlineError` that says what was awaited when `duration` is over.
@Loop
public func withDeadline<R: Sendable>(
    _ duration: Duration, awaiting awaited: String,
    _ body: @escaping @Loop @Sendable () async throws -> R
) async throws -> R {
    let task = Task { @Loop in try await body() }
    let timer = Task { @Loop in
        try await sleep(for: duration)
        task.cancel()
        return true
    }
    return try await withTaskCancellationHandler {
        do {
            let result = try await task.value
            timer.cancel()
            return result
        } catch {
            timer.cancel()
            // The body's own error counts, unless it is only the echo of our cancelling it.
            if error is CancellationError, case .success(true) = await timer.result {
                throw DeadlineError(awaited: awaited, duration: duration)
            }
            throw error
        }
    } onCancel: {
        task.cancel()
        timer.cancel()
    }
}

/// Reads what is there, up to `capacity` bytes, waiting until there is something; empty at the end of the stream.
/// `descriptor` must be non-blocking (or a regular file).
public func readSome(_ descriptor: Int32, capacity: Int = 65536) async throws -> [UInt8] {
    while true {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            let got = read(descriptor, buffer.baseAddress, capacity)
            failure = got < 0 ? errno : 0
            count = max(0, got)
        }
        switch failure {
        case 0: return bytes
        case EINTR: continue
        case EAGAIN: try await readable(descriptor)
        case EIO: return []  // the other end of a terminal went away
        default: throw SystemError("read", code: failure)
        }
    }
}

/// Writes all of `bytes`, waiting as often as it takes. `descriptor` must be non-blocking (or a regular file).
public func writeAll(_ descriptor: Int32, _ bytes: [UInt8]) async throws {
    var offset = 0
    while offset < bytes.count {
        let wrote = bytes.withUnsafeBytes {
            write(descriptor, $0.baseAddress! + offset, $0.count - offset)
        }
        if wrote >= 0 {
            offset += wrote
        } else if errno == EAGAIN {
            try await writable(descriptor)
        } else if errno != EINTR {
            throw SystemError("write")
        }
    }
}
