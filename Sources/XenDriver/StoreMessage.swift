/// A message of Xen's store (xen/include/public/io/xs_wire.h): four little-endian words, and a payload.
struct StoreMessage: Hashable, Sendable {
    enum Kind: UInt32, Sendable {
        case directory = 1
        case read = 2
        case watch = 4
        case write = 11
        case remove = 13
        case watchEvent = 15
        case error = 16
    }

    var kind: UInt32
    var request: UInt32
    var payload: [UInt8]

    /// A question whose words each end with a zero, or one whose last does not (`write`'s value).
    init(_ kind: Kind, request: UInt32, _ words: [String], value: String? = nil) {
        self.kind = kind.rawValue
        self.request = request
        payload = words.flatMap { Array($0.utf8) + [0] } + Array((value ?? "").utf8)
    }

    private init(kind: UInt32, request: UInt32, payload: [UInt8]) {
        self.kind = kind
        self.request = request
        self.payload = payload
    }

    var encoded: [UInt8] {
        [kind, request, 0, UInt32(payload.count)].flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
            + payload
    }

    /// The payload's words, without their zeros.
    var words: [String] { payload.split(separator: 0).map { String(decoding: $0, as: UTF8.self) } }
    /// The whole payload.
    var text: String { String(decoding: payload.prefix { $0 != 0 }, as: UTF8.self) }

    /// The most that a payload may be (XENSTORE_PAYLOAD_MAX).
    static let limit = 4096

    /// Takes the first whole message off the front of `bytes`; nil when there is none yet. Throws when it is none.
    static func take(_ bytes: inout [UInt8]) throws(StoreError) -> StoreMessage? {
        guard bytes.count >= 16 else { return nil }
        func word(_ index: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(bytes[4 * index + $1]) << (8 * $1) } }
        let count = Int(word(3))
        guard count <= limit else { throw StoreError("EPROTO", "a message of \(count) bytes") }
        guard bytes.count >= 16 + count else { return nil }
        let message = StoreMessage(kind: word(0), request: word(1), payload: Array(bytes[16..<16 + count]))
        bytes.removeFirst(16 + count)
        return message
    }
}
