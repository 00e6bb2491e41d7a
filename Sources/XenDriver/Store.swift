import Glibc
import LinuxSystem

/// What Xen's store answered.
struct StoreError: HullError {
    /// The store's word for it, e.g. `ENOENT`.
    var word: String
    var path: String
    init(_ word: String, _ path: String) {
        self.word = word
        self.path = path
    }
    var sentence: String { "Xen's store did not do what it was asked with \(path) (\(word)): is xenstored running?" }
}

/// A connection to Xen's store, in which domains and their devices are described (docs/misc/xenstore.txt).
@Loop
final class Store {
    private let connection: SharedDescriptor
    private var reader: Task<Void, Never>?
    private var answers: [UInt32: CheckedContinuation<StoreMessage, any Error>] = [:]
    private var watches: [String: AsyncStream<Void>.Continuation] = [:]
    private var next: UInt32 = 1
    private var hasEnded = false

    /// The daemon's socket, or the kernel's way to a store that lives in another domain.
    nonisolated static let places = ["/run/xenstored/socket", "/var/run/xenstored/socket"]
    nonisolated static let device = "/dev/xen/xenbus"

    /// Connects to the host's store.
    static func connect() throws -> Store {
        for path in places where access(path, F_OK) == 0 { return Store(try UnixSocket.connect(path)) }
        return Store(SharedDescriptor(try openFile(device, O_RDWR | O_NONBLOCK)))
    }

    /// Talks over `connection`, which must not block.
    init(_ connection: SharedDescriptor) {
        self.connection = connection
        reader = Task { @Loop [weak self, connection] in
            var bytes: [UInt8] = []
            do {
                while true {
                    let more = try await readSome(connection.raw)
                    if more.isEmpty { break }
                    bytes += more
                    while let message = try StoreMessage.take(&bytes) { self?.take(message) }
                }
            } catch {}  // cancelled, or broken: whoever waits is told below
            self?.end()
        }
    }

    /// Ends the connection, and everybody's waiting.
    func close() {
        reader?.cancel()
        end()
    }

    private func end() {
        hasEnded = true
        let waiting = answers
        answers = [:]
        for answer in waiting.values { answer.resume(throwing: StoreError("EPIPE", "a question")) }
        for watch in watches.values { watch.finish() }
        watches = [:]
    }

    private func take(_ message: StoreMessage) {
        if message.kind == StoreMessage.Kind.watchEvent.rawValue {
            // The path that changed, and the token.
            if message.words.count >= 2 { watches[message.words[1]]?.yield() }
        } else {
            answers.removeValue(forKey: message.request)?.resume(returning: message)
        }
    }

    private func ask(_ kind: StoreMessage.Kind, _ words: [String], value: String? = nil) async throws -> StoreMessage {
        guard !hasEnded else { throw StoreError("EPIPE", words[0]) }
        let request = next
        next &+= 1
        let bytes = StoreMessage(kind, request: request, words, value: value).encoded
        let answer = try await withDeadline(.seconds(30), awaiting: "an answer of Xen's store") { @Loop in
            try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<StoreMessage, any Error>) in
                    self.answers[request] = continuation
                    // Messages are small: one that does not fit in the socket's buffer means that nobody reads there.
                    let wrote = Glibc.write(self.connection.raw, bytes, bytes.count)
                    if wrote != bytes.count {
                        self.answers.removeValue(forKey: request)?.resume(throwing: SystemError("ask Xen's store"))
                    }
                }
            } onCancel: {
                Task { @Loop in self.answers.removeValue(forKey: request)?.resume(throwing: CancellationError()) }
            }
        }
        if answer.kind == StoreMessage.Kind.error.rawValue { throw StoreError(answer.text, words[0]) }
        return answer
    }

    /// The value at `path`; nil when there is none.
    func read(_ path: String) async throws -> String? {
        do { return try await ask(.read, [path]).text } catch let error as StoreError where error.word == "ENOENT" { return nil }
    }

    /// The names below `path`; none when it is not there.
    func list(_ path: String) async throws -> [String] {
        do { return try await ask(.directory, [path]).words } catch let error as StoreError where error.word == "ENOENT" {
            return []
        }
    }

    /// Takes away what is at `path`, where anything is.
    func remove(_ path: String) async throws {
        do { _ = try await ask(.remove, [path]) } catch let error as StoreError where error.word == "ENOENT" {}
    }

    /// Writes a value.
    func write(_ path: String, _ value: String) async throws { _ = try await ask(.write, [path], value: value) }

    /// Tells of each change at or below `path` or of a special name (`@releaseDomain`), and once at the beginning; ends with the connection. For
    /// one reader.
    func watch(_ path: String) async throws -> AsyncStream<Void> {
        let (changes, change) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let token = "\(next)"
        watches[token] = change
        do { _ = try await ask(.watch, [path, token]) } catch {
            watches[token] = nil
            throw error
        }
        return changes
    }

    /// Waits for a value at `path` that is accepted.
    func value(
        at path: String, awaiting what: String, within duration: Duration,
        _ isAccepted: @escaping @Sendable (String) -> Bool = { !$0.isEmpty }
    ) async throws -> String {
        try await withDeadline(duration, awaiting: what) {
            for await _ in try await self.watch(path) {
                if let value = try await self.read(path), isAccepted(value) { return value }
            }
            throw StoreError("EPIPE", path)
        }
    }
}
