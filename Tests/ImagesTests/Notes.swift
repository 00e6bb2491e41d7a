import Images
import Synchronization

/// What a pull's progress said.
final class Notes: Sendable {
    private let said = Mutex<[String]>([])
    var all: [String] { said.withLock { $0 } }
    func add(_ text: String) { said.withLock { $0.append(text) } }
}

/// A pull's events.
final class Events: Sendable {
    private let taken = Mutex<[PullEvent]>([])
    var all: [PullEvent] { taken.withLock { $0 } }
    var last: PullEvent? { all.last }
    var take: PullProgress { { event in self.taken.withLock { $0.append(event) } } }
    /// How many layers the store did not have.
    var layersToFetch: Int? {
        for case .pulling(_, let layers) in all { return layers.filter { !$0.isHere }.count }
        return nil
    }
}
