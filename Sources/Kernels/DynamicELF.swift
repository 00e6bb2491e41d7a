/// What a dynamically linked program or library of Linux needs to be run. Pure. (elf(5), ld.so(8))
struct DynamicELF: Sendable, Hashable {
    /// The program that loads it; nil for a library.
    var interpreter: String?
    /// Names of libraries.
    var needed: [String] = []
    /// Folders that are looked at for them before the usual ones.
    var runPath: [String] = []

    /// Reads a 64-bit little-endian ELF; nil when the bytes are none, or its tables lie outside of them.
    init?(_ bytes: [UInt8]) {
        guard bytes.count > 64, bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) else { return nil }
        func number(_ offset: Int, _ count: Int) -> Int? {
            guard offset >= 0, offset <= bytes.count - count else { return nil }
            // Nothing here is so large that its highest bit is set.
            return (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
        }
        func text(_ offset: Int) -> String? {
            guard offset >= 0, offset < bytes.count else { return nil }
            return String(decoding: bytes[offset...].prefix(4096).prefix { $0 != 0 }, as: UTF8.self)
        }
        guard let table = number(32, 8), let size = number(54, 2), let count = number(56, 2), size >= 56 else { return nil }
        var loads: [(offset: Int, address: Int, size: Int)] = []
        var dynamic: (offset: Int, size: Int)?
        for index in 0..<count {
            let entry = table &+ index * size
            guard let type = number(entry, 4), let offset = number(entry + 8, 8), let address = number(entry + 16, 8),
                let length = number(entry + 32, 8)
            else { return nil }
            if type == 1 { loads.append((offset, address, length)) }
            if type == 2 { dynamic = (offset, length) }
            if type == 3 { interpreter = text(offset) }
        }
        guard let dynamic else { return }
        var names: [(tag: Int, value: Int)] = []
        var strings: Int?
        for place in stride(from: dynamic.offset, to: dynamic.offset &+ dynamic.size, by: 16) {
            guard let tag = number(place, 8), let value = number(place + 8, 8) else { return nil }
            switch tag {
            // DT_NEEDED, DT_RPATH, DT_RUNPATH
            case 1, 15, 29: names.append((tag, value))
            case 5:
                strings = loads.first { value >= $0.address && value - $0.address < $0.size }.map {
                    value - $0.address + $0.offset
                }
            default: break
            }
        }
        for name in names {
            guard let strings, let word = text(strings &+ name.value) else { return nil }
            if name.tag == 1 { needed.append(word) } else { runPath += word.split(separator: ":").map(String.init) }
        }
    }
}
