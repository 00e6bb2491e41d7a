import Synchronization

/// What a pull's progress said.
final class Notes: Sendable {
  private let said = Mutex<[String]>([])
  var all: [String] { said.withLock { $0 } }
  func add(_ text: String) { said.withLock { $0.append(text) } }
}
