/// Where tasks wait for a change of something else; whoever changes it opens the gate for all that wait then.
@Loop
public final class Gate {
    private var waiting: [UInt64: CheckedContinuation<Void, any Error>] = [:]
    private var next: UInt64 = 0

    /// A gate that nobody waits at.
    public init() {}

    /// Waits for the next `open()`. Throws `CancellationError` when the task is cancelled.
    public func wait() async throws {
        let id = next
        next += 1
        try await withTaskCancellationHandler {
            try Task.checkCancellation()
            try await withCheckedThrowingContinuation { waiting[id] = $0 }
        } onCancel: {
            Task { @Loop in self.waiting.removeValue(forKey: id)?.resume(throwing: CancellationError()) }
        }
    }

    /// Lets everybody go on.
    public func open() {
        guard !waiting.isEmpty else { return }
        let all = waiting
        waiting = [:]
        for continuation in all.values { continuation.resume() }
    }
}
