import CGuest

/// An open file that is closed when its owner goes.
struct Descriptor: ~Copyable {
    /// The kernel's number; valid as long as this value lives.
    let number: Int32

    /// Takes a descriptor that nobody else closes.
    init(owning number: Int32) { self.number = number }

    /// Opens a path, close-on-exec; the error is the kernel's number.
    init(_ path: String, _ flags: Int32, mode: UInt32 = 0) throws(KernelError) {
        number = try KernelError.check(guest_open(path, flags, mode))
    }

    deinit { _ = close(number) }

    /// Reads what is there, at most `limit` bytes in all; for small files of /proc and /sys.
    borrowing func readAll(limit: Int = 1 << 20) -> [UInt8] {
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while all.count < limit {
            let got = read(number, &chunk, chunk.count)
            if got <= 0 { break }
            all.append(contentsOf: chunk[0..<got])
            if all.count == got, got == chunk.count { chunk = [UInt8](repeating: 0, count: 65536) }
        }
        return all
    }

    /// Writes all bytes in one call.
    borrowing func writeOnce(_ bytes: [UInt8]) throws(KernelError) {
        let wrote = bytes.withUnsafeBytes { write(number, $0.baseAddress, $0.count) }
        if wrote < 0 { throw KernelError(guest_errno()) }
    }
}

/// An error number of the kernel.
struct KernelError: Error {
    let number: Int32

    init(_ number: Int32) { self.number = number }

    /// The kernel's words for it, in lower case as Go programs print them.
    var words: String {
        let text = String(cString: strerror(number))
        guard let first = text.utf8.first, first >= 65, first <= 90, text.utf8.dropFirst().first.map({ $0 >= 97 }) == true else {
            return text
        }
        var bytes = Array(text.utf8)
        bytes[0] += 32
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Passes a result on, or throws what a negative one stands for.
    @discardableResult
    static func check(_ result: Int32) throws(KernelError) -> Int32 {
        if result < 0 { throw KernelError(-result) }
        return result
    }

    /// The same for the C library's calls, which leave the number in errno.
    static func checkErrno(_ result: Int32) throws(KernelError) {
        if result < 0 { throw KernelError(guest_errno()) }
    }
}

/// Small files.
enum TextFile {
    /// The whole of a small file, empty when it cannot be read.
    static func read(_ path: String, limit: Int = 1 << 20) -> [UInt8] {
        guard let file = try? Descriptor(path, O_RDONLY) else { return [] }  // absent and empty mean the same to every caller
        return file.readAll(limit: limit)
    }

    /// The same as text, without a last newline.
    static func readLine(_ path: String) -> String {
        var bytes = read(path, limit: 65536)
        if bytes.last == 10 { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A number in a file; nil when there is none (`max`).
    static func readNumber(_ path: String) -> UInt64? { Scan.number(read(path, limit: 64)) }

    /// Writes to a file that exists.
    static func write(_ path: String, _ text: String) throws(KernelError) {
        let file = try Descriptor(path, O_WRONLY | O_TRUNC)
        try file.writeOnce(Array(text.utf8))
    }
}

/// Reading numbers and words out of bytes.
enum Scan {
    /// The decimal number at the begin of the bytes, nil when there is none or it is too large.
    static func number<B: Collection>(_ bytes: B) -> UInt64? where B.Element == UInt8 {
        var value: UInt64 = 0
        var any = false
        for byte in bytes {
            guard byte >= 48, byte <= 57 else { break }
            let (product, over) = value.multipliedReportingOverflow(by: 10)
            let (sum, over2) = product.addingReportingOverflow(UInt64(byte - 48))
            if over || over2 { return nil }
            value = sum
            any = true
        }
        return any ? value : nil
    }

    /// A whole text as a decimal number.
    static func whole(_ text: String) -> UInt64? {
        guard !text.utf8.isEmpty, text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }) else { return nil }
        return number(text.utf8)
    }

    /// The pieces between separators; empty ones are kept.
    static func split<B: Sequence>(_ bytes: B, _ separator: UInt8) -> [[UInt8]] where B.Element == UInt8 {
        var pieces: [[UInt8]] = []
        var piece: [UInt8] = []
        for byte in bytes {
            if byte == separator {
                pieces.append(piece)
                piece = []
            } else {
                piece.append(byte)
            }
        }
        pieces.append(piece)
        return pieces
    }

    /// The words between spaces, tabs and newlines.
    static func words<B: Sequence>(_ bytes: B) -> [[UInt8]] where B.Element == UInt8 {
        var words: [[UInt8]] = []
        var word: [UInt8] = []
        for byte in bytes {
            if byte == 32 || byte == 9 || byte == 10 {
                if !word.isEmpty { words.append(word) }
                word = []
            } else {
                word.append(byte)
            }
        }
        if !word.isEmpty { words.append(word) }
        return words
    }

    /// The value of a line `NAME VALUE` in a flat keyed file.
    static func value(of name: String, in bytes: [UInt8]) -> UInt64? {
        let wanted = Array(name.utf8)
        for line in split(bytes, 10) {
            let parts = words(line)
            if parts.count >= 2, parts[0] == wanted { return number(parts[1]) }
        }
        return nil
    }

    /// Bytes as text.
    static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}

/// The console: for what cannot go to the host.
func console(_ line: String) {
    let bytes = Array(("<4>hull-init: " + line + "\n").utf8)
    _ = bytes.withUnsafeBytes { guest_kmsg($0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count) }
}
