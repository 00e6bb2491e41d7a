import CArchive

/// A running SHA-2 of a stream.
struct StreamHash {
    private enum State {
        case sha256(sha256_ctx)
        case sha512(sha512_ctx)
    }
    private var state: State

    /// `algorithm` is `sha256` or `sha512`; nil for others.
    init?(_ algorithm: some StringProtocol) {
        switch algorithm {
        case "sha256":
            var context = sha256_ctx()
            nettle_sha256_init(&context)
            state = .sha256(context)
        case "sha512":
            var context = sha512_ctx()
            nettle_sha512_init(&context)
            state = .sha512(context)
        default: return nil
        }
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.bindMemory(to: UInt8.self).baseAddress else { return }
        switch state {
        case .sha256(var context):
            nettle_sha256_update(&context, bytes.count, base)
            state = .sha256(context)
        case .sha512(var context):
            nettle_sha512_update(&context, bytes.count, base)
            state = .sha512(context)
        }
    }

    /// `algorithm:hex`.
    consuming func finish() -> String {
        var bytes = [UInt8](repeating: 0, count: 64)
        switch state {
        case .sha256(var context):
            nettle_sha256_digest(&context, 32, &bytes)
            return "sha256:\(hex(bytes.prefix(32)))"
        case .sha512(var context):
            nettle_sha512_digest(&context, 64, &bytes)
            return "sha512:\(hex(bytes[...]))"
        }
    }

    private func hex(_ bytes: ArraySlice<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
