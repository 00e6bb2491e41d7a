/// The head of an x86 bzImage: where its payload is, and which release it says it is. Pure.
/// (Documentation/x86/boot.rst, "The real-mode kernel header")
struct BootImage: Sendable, Hashable {
    /// The compressed kernel, as a range of the file's bytes.
    var payload: Range<Int>
    /// The first word of its version string, e.g. `6.1.0-56-cloud-amd64`.
    var release: String

    /// Reads the head; nil when the bytes are no bzImage of protocol 2.08 or later.
    init?(_ bytes: [UInt8]) {
        func number(_ offset: Int, _ count: Int) -> Int {
            (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
        }
        guard bytes.count > 0x260, bytes[0x202..<0x206].elementsEqual("HdrS".utf8), number(0x206, 2) >= 0x208 else { return nil }
        let sectors = number(0x1F1, 1) == 0 ? 4 : number(0x1F1, 1)
        let start = (sectors + 1) * 512 + number(0x248, 4)
        let count = number(0x24C, 4)
        guard count > 16, start + count <= bytes.count else { return nil }
        payload = start..<start + count
        let text = number(0x20E, 2) + 0x200
        guard number(0x20E, 2) != 0, text < bytes.count else { return nil }
        release = String(decoding: bytes[text...].prefix(256).prefix { $0 != 0 && $0 != 0x20 }, as: UTF8.self)
        guard KernelRelease.isPlausible(release) else { return nil }
    }
}

/// How a payload or a module is compressed, by its first bytes. Pure.
enum Compression: String, Sendable, CaseIterable {
    case gzip, xz, lz4, zstd

    init?(_ head: some Collection<UInt8>) {
        let magics: [(Compression, [UInt8])] = [
            (.gzip, [0x1F, 0x8B]), (.xz, [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]), (.lz4, [0x02, 0x21, 0x4C, 0x18]),
            (.zstd, [0x28, 0xB5, 0x2F, 0xFD]),
        ]
        guard let found = magics.first(where: { head.starts(with: $0.1) }) else { return nil }
        self = found.0
    }

    /// The program that undoes it, and the package that has it.
    var program: (name: String, arguments: [String], package: String) {
        switch self {
        case .gzip: ("gzip", ["-dc"], "gzip")
        case .xz: ("xz", ["-dc", "--single-stream"], "xz-utils")
        case .lz4: ("lz4", ["-dc"], "lz4")
        case .zstd: ("zstd", ["-dc", "-q"], "zstd")
        }
    }

    /// Bytes behind the stream in a kernel's payload: the build appends the size, but gzip has it inside (scripts/Makefile.lib).
    var trailer: Int { self == .gzip ? 0 : 4 }
}

/// A kernel's release: what `uname -r` says, and the name of its folder of modules.
enum KernelRelease {
    /// Letters, digits and `.-_+~` only: it becomes part of a path.
    static func isPlausible(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count) && text.first?.isNumber == true
            && text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2B, 0x2D, 0x2E, 0x5F, 0x7E: true
                default: false
                }
            }
    }

    /// Orders releases as people do: numbers by value, so that 6.10 comes after 6.9.
    static func isOlder(_ one: String, than other: String) -> Bool {
        parts(one).lexicographicallyPrecedes(parts(other)) { a, b in a.number != b.number ? a.number < b.number : a.text < b.text
        }
    }

    private struct Part: Equatable { var number: Int; var text: String }
    private static func parts(_ text: String) -> [Part] {
        text.split { $0 == "." || $0 == "-" || $0 == "+" || $0 == "~" }.map { Part(number: Int($0) ?? -1, text: String($0)) }
    }
}
