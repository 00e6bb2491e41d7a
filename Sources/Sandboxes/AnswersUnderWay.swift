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

    /// Waits until all are. Called once.
    func settled() async {
        if count > 0 { await withCheckedContinuation { waiting = $0 } }
    }
}
