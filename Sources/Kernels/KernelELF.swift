import Glibc

/// What an uncompressed kernel's ELF head and notes say. Pure. (elf(5))
struct KernelELF: Sendable, Hashable {
    /// Where a VMM can enter it directly: XEN_ELFNOTE_PHYS32_ENTRY (the PVH boot ABI).
    var entry: UInt32?
    var hasPVHEntry: Bool { entry != nil }
    /// What is to be loaded; nil where a segment is not whole.
    var segments: [Segment]? = []
    /// The linker's build id, in hexadecimal.
    var buildID: String?
    /// From its banner, `Linux version RELEASE …`.
    var release: String?

    /// A piece of the file, and the memory that it is the beginning of.
    struct Segment: Sendable, Hashable {
        var file: Range<Int>
        /// Physical.
        var address: UInt64
        /// Bytes; those that the file has not are zero.
        var memory: Int
    }

    /// Reads a 64-bit little-endian ELF; nil when the bytes are none, or its tables lie outside of them.
    init?(_ bytes: [UInt8]) {
        guard bytes.count > 64, bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) else { return nil }
        func number(_ offset: Int, _ count: Int) -> Int? {
            guard offset >= 0, offset + count <= bytes.count else { return nil }
            return (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
        }
        guard let table = number(32, 8), let entrySize = number(54, 2), let entries = number(56, 2), entrySize >= 56 else {
            return nil
        }
        for index in 0..<entries {
            let entry = table &+ index * entrySize
            guard let type = number(entry, 4), let offset = number(entry + 8, 8), let size = number(entry + 32, 8) else {
                return nil
            }
            if type == 4, offset >= 0, size >= 0, size <= 1 << 20, offset <= bytes.count - size {
                readNotes(bytes[offset..<offset + size])
            }
            if type == 1 {
                guard let address = number(entry + 24, 8), let memory = number(entry + 40, 8) else { return nil }
                if offset >= 0, size >= 0, offset <= bytes.count - size, address >= 0, (size..<1 << 32).contains(memory) {
                    segments?.append(Segment(file: offset..<offset + size, address: UInt64(address), memory: memory))
                } else {
                    segments = nil
                }
            }
        }
        release = Self.banner(bytes)
    }

    private mutating func readNotes(_ notes: ArraySlice<UInt8>) {
        var rest = notes
        while rest.count >= 12 {
            func word(_ index: Int) -> Int {
                (0..<4).reduce(0) { $0 | Int(rest[rest.startIndex + 4 * index + $1]) << (8 * $1) }
            }
            let (nameSize, size, type) = (word(0), word(1), word(2))
            let named = (nameSize + 3) & ~3
            let padded = (size + 3) & ~3
            rest = rest.dropFirst(12)
            guard named + size <= rest.count else { return }
            let name = rest.prefix(nameSize)
            let value = rest.dropFirst(named).prefix(size)
            if name.elementsEqual("Xen\0".utf8), type == 18, value.count >= 4 {
                entry = value.prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
            }
            if name.elementsEqual("GNU\0".utf8), type == 3 {
                buildID = value.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            }
            rest = rest.dropFirst(min(named + padded, rest.count))
        }
    }

    private static func banner(_ bytes: [UInt8]) -> String? {
        let words = Array("Linux version ".utf8)
        return bytes.withUnsafeBytes { all in
            var offset = 0
            while all.count - offset > words.count,
                let hit = memchr(all.baseAddress! + offset, Int32(words[0]), all.count - offset - words.count)
            {
                let start = all.baseAddress!.distance(to: hit) + words.count
                offset = start - words.count + 1
                guard memcmp(hit, words, words.count) == 0 else { continue }
                let release = String(
                    decoding: all[start..<min(start + 80, all.count)].prefix { $0 != 0x20 && $0 != 0 }, as: UTF8.self)
                if KernelRelease.isPlausible(release) { return release }
            }
            return nil
        }
    }
}
