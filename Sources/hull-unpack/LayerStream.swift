import CArchive
import Glibc

/// A layer's bytes, decompressed (gzip, zstd or plain), hashed and counted on their way.
final class LayerStream {
    private let archive: OpaquePointer
    private var hash: StreamHash
    private let limit: UInt64
    private(set) var count: UInt64 = 0
    private var ended = false
    private var buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 64)
    /// What went wrong inside a callback, which can only return a number.
    private(set) var failure: UnpackFailure?
    private let progress: (UInt64) -> Void
    private var told: UInt64 = 0

    /// Reads `descriptor`; more than `limit` bytes are an error. `progress` gets the compressed bytes read so far.
    init(_ descriptor: Int32, hash: StreamHash, limit: UInt64, progress: @escaping (UInt64) -> Void) throws(UnpackFailure) {
        self.hash = hash
        self.limit = limit
        self.progress = progress
        archive = archive_read_new()
        archive_read_support_filter_gzip(archive)
        archive_read_support_filter_zstd(archive)
        archive_read_support_format_raw(archive)
        archive_read_support_format_empty(archive)
        var entry: OpaquePointer?
        if archive_read_open_fd(archive, descriptor, 1 << 18) != ARCHIVE_OK {
            throw UnpackFailure(.damaged, "it cannot be decompressed: \(complaint(archive))")
        }
        switch archive_read_next_header(archive, &entry) {
        case ARCHIVE_OK: break
        case ARCHIVE_EOF: ended = true
        default: throw UnpackFailure(.damaged, "it cannot be decompressed: \(complaint(archive))")
        }
    }

    deinit {
        archive_read_free(archive)
        buffer.deallocate()
    }

    /// The next bytes, valid until the next call; empty at the end, nil after an error, which is in `failure`.
    func next() -> UnsafeRawBufferPointer? {
        if failure != nil { return nil }
        if ended { return UnsafeRawBufferPointer(start: nil, count: 0) }
        let got = archive_read_data(archive, buffer.baseAddress, buffer.count)
        if got < 0 {
            failure = UnpackFailure(.damaged, "it is damaged or truncated: \(complaint(archive))")
            return nil
        }
        if got == 0 { ended = true }
        let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<Int(got)])
        hash.update(bytes)
        count += UInt64(got)
        if count > limit {
            failure = UnpackFailure(.tooBig, "it has more than \(limit) bytes")
            return nil
        }
        let raw = UInt64(max(0, archive_filter_bytes(archive, -1)))
        if raw >= told + (4 << 20) {
            told = raw
            progress(raw)
        }
        return bytes
    }

    /// Reads to the end and gives the digest of all bytes.
    func finish() throws(UnpackFailure) -> String {
        while let bytes = next(), bytes.count > 0 {}
        if let failure { throw failure }
        return hash.finish()
    }
}

/// What libarchive says of its last error.
func complaint(_ archive: OpaquePointer) -> String {
    archive_error_string(archive).map { quoted(Array(String(cString: $0).utf8)).dropFirst().dropLast() }.map(String.init)
        ?? "unknown format"
}

/// The digests of whole files: `hull-unpack digest ALGORITHM…`, descriptors from 3 on; a line for each.
func digestFiles(_ algorithms: [String]) throws(UnpackFailure) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { buffer.deallocate() }
    for (index, algorithm) in algorithms.enumerated() {
        guard var hash = StreamHash(algorithm) else {
            throw UnpackFailure(.system, "no digest algorithm \(algorithm)")
        }
        var total = 0
        while true {
            let got = read(Int32(3 + index), buffer.baseAddress, buffer.count)
            if got < 0 && errno == EINTR { continue }
            if got < 0 { throw .system("read", Array("file \(index)".utf8)) }
            if got == 0 { break }
            total += got
            hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<got]))
        }
        say("digest \(index) \(total) \(hash.finish())")
    }
}
