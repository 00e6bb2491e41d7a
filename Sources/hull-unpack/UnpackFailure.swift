import Glibc

/// Why a layer was not unpacked. The program ends with the kind's number, the sentence on standard error; Images knows
/// the numbers too.
struct UnpackFailure: Error {
    enum Kind: Int32 {
        case damaged = 10
        case hostile, tooBig, mismatch, diskFull, system
    }
    var kind: Kind
    var sentence: String

    init(_ kind: Kind, _ sentence: String) {
        self.kind = kind
        self.sentence = sentence
    }

    /// A system call that failed on `name`.
    static func system(_ operation: String, _ name: [UInt8], _ code: Int32 = errno) -> UnpackFailure {
        UnpackFailure(
            code == ENOSPC || code == EDQUOT ? .diskFull : .system,
            "\(operation) \(quoted(name)): \(String(cString: strerror(code)))")
    }
}

/// A name from an archive as a person may safely see it: in quotes, control characters escaped, cut where it is long.
func quoted(_ name: [UInt8]) -> String {
    var text = "\""
    for scalar in String(decoding: name.prefix(200), as: UTF8.self).unicodeScalars {
        let isControl = scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value)
        text += isControl ? "\\x\(String(scalar.value, radix: 16))" : String(scalar)
    }
    return text + (name.count > 200 ? "…\"" : "\"")
}

/// Writes a line for Images.
func say(_ line: String) {
    let bytes = Array("\(line)\n".utf8)
    var offset = 0
    while offset < bytes.count {
        let wrote = bytes[offset...].withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
        if wrote < 0 { if errno == EINTR { continue } else { return } }
        offset += wrote
    }
}
