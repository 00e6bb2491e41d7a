/// Work of several awaits that is done one at a time, in the order in which it came.
@Loop
public final class Turns {
    private var isTaken = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    /// Turns of which none is taken.
    public init() {}

    /// Does `work` when all that came before is done, be it with an error. A turn must not be taken within one: it would wait for itself.
    public func take<Result>(_ work: () async throws -> Result) async rethrows -> Result {
        // Whoever is let go on finds it taken still, for itself.
        if isTaken { await withCheckedContinuation { waiting.append($0) } }
        isTaken = true
        defer { if waiting.isEmpty { isTaken = false } else { waiting.removeFirst().resume() } }
        return try await work()
    }
}
