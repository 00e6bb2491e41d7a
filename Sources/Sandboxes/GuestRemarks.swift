/// What the agent in the guest says for the monitor's log: so much and no more, in plain characters, because a hostile guest
/// may say anything. Pure.
struct GuestRemarks {
    /// Bytes of all of a sandbox's lines together.
    static let limit = 64 << 10
    private var left = Self.limit

    /// The line as it is to be written; nil when enough was said.
    mutating func take(_ line: String) -> String? {
        guard left > 0 else { return nil }
        let plain = String(String.UnicodeScalarView(line.unicodeScalars.map { Self.isPlain($0) ? $0 : "?" }))
        left -= plain.utf8.count + 16
        return left > 0 ? "guest: \(plain)" : "guest: (what it said after this was left out)"
    }

    private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
        default: true
        }
    }
}
