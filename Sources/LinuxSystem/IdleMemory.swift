import CLinux

/// Gives memory back when a process that lives long has been idle for a while.
@Loop
public final class IdleMemory {
    private let delay: Duration
    private var waiting: Task<Void, any Error>?

    /// `delay` is how long nothing must have been done.
    public init(after delay: Duration) { self.delay = delay }

    /// Something was done: the wait begins anew, and ends with the process small again (once; the next use makes it grow).
    public func touch() {
        waiting?.cancel()
        let delay = delay
        waiting = Task { @Loop in
            try await sleep(for: delay)
            hull_forget_pages()
        }
    }

    deinit { waiting?.cancel() }
}
