import LinuxSystem

/// Answers that a container's end does not give by itself: its monitor's end would cut them off, so that it waits for them.
@Loop
final class AnswersUnderWay {
    private var count = 0
    private var waiting: CheckedContinuation<Void, Never>?

    /// One more is to be given; `given()` follows.
    func begin() { count += 1 }

    func given() {
        count -= 1
        guard count == 0 else { return }
        waiting?.resume()
        waiting = nil
    }

    /// Runs `save`, which asks whether the end of what it saved is wanted. That is said at `channel`, and answered there.
    func save(
        at channel: Channel, ends: Bool,
        _ save: (_ report: @escaping @Loop (SavedState) async throws -> Bool) async throws -> Void
    ) async throws {
        var isEnding = false
        defer { if isEnding { given() } }
        try await save { state in
            isEnding = try await channel.report(state, ends: ends)
            if isEnding { self.begin() }
            return isEnding
        }
        if ends { try await channel.send(Reply.done) }
    }

    /// Waits until all are. Called once.
    func settled() async {
        if count > 0 { await withCheckedContinuation { waiting = $0 } }
    }
}
