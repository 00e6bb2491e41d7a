import ArgumentParser

/// The keys that leave a container running (`--detach-keys ctrl-p,ctrl-q`): found in what the user types, however it is cut.
struct DetachKeys {
    private let sequence: [UInt8]
    private var matched = 0

    /// nil: ctrl-p, ctrl-q.
    init(_ text: String?) throws {
        guard let text else {
            sequence = [16, 17]
            return
        }
        sequence = try text.split(separator: ",").map { key in
            if key.hasPrefix("ctrl-"), key.count == 6, let byte = key.last?.asciiValue {
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"): return byte - 96
                case UInt8(ascii: "@"): return 0
                case UInt8(ascii: "["), UInt8(ascii: "\\"), UInt8(ascii: "]"), UInt8(ascii: "^"),
                    UInt8(ascii: "_"):
                    return byte - 64
                default: break
                }
            }
            guard key.count == 1, let byte = key.first?.asciiValue else {
                throw ValidationError("invalid key \"\(key)\" in --detach-keys: write e.g. ctrl-p,ctrl-q")
            }
            return byte
        }
    }

    /// What is to be passed on of `bytes`, and whether the sequence was completed (what follows it is dropped).
    mutating func filter(_ bytes: [UInt8]) -> (pass: [UInt8], detached: Bool) {
        guard !sequence.isEmpty else { return (bytes, false) }
        var pass: [UInt8] = []
        for byte in bytes {
            if byte == sequence[matched] {
                matched += 1
                if matched == sequence.count { return (pass, true) }
            } else {
                pass += sequence[..<matched]
                matched = byte == sequence[0] ? 1 : 0
                if matched == 0 { pass.append(byte) }
                if matched == sequence.count { return (pass, true) }
            }
        }
        return (pass, false)
    }
}
