/// The name of a content: an algorithm and a hash (image-spec, descriptor.md, "Digests"). Only the registered algorithms,
/// sha256 and sha512, in lower-case hex, so that a digest can be used as a file name.
public struct Digest: Hashable, Sendable, CustomStringConvertible {
    public enum Algorithm: String, Sendable, CaseIterable {
        case sha256, sha512
        /// The length of its hash in hex.
        public var hexCount: Int { self == .sha256 ? 64 : 128 }
    }
    public let algorithm: Algorithm
    /// The hash, lower-case hex.
    public let hex: String

    /// Reads `algorithm:hex`; nil for anything else.
    public init?(_ text: some StringProtocol) {
        guard let colon = text.firstIndex(of: ":"),
            let algorithm = Algorithm(rawValue: String(text[..<colon]))
        else { return nil }
        self.init(algorithm, hex: String(text[text.index(after: colon)...]))
    }

    /// Takes a hash in lower-case hex; nil when it has another length or other characters.
    public init?(_ algorithm: Algorithm, hex: String) {
        guard hex.utf8.count == algorithm.hexCount,
            hex.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
        else { return nil }
        self.algorithm = algorithm
        self.hex = hex
    }

    public var description: String { "\(algorithm.rawValue):\(hex)" }
    /// The first twelve digits, as people see them.
    public var short: String { String(hex.prefix(12)) }
}

extension Digest: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let digest = Digest(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "\"\(text.prefix(200))\" is no sha256 or sha512 digest")
        }
        self = digest
    }
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
