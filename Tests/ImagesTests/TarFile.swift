/// Writes tar archives (ustar with pax headers), also such as no honest program writes.
struct TarFile {
    private(set) var bytes: [UInt8] = []

    enum Kind: Character {
        case file = "0"
        case hardLink = "1"
        case link = "2"
        case characterDevice = "3"
        case blockDevice = "4"
        case folder = "5"
        case fifo = "6"
    }

    mutating func add(
        _ name: String, _ kind: Kind = .file, _ content: String = "", link: String = "", mode: Int = 0o644, uid: Int = 0,
        gid: Int = 0, time: Int = 1_700_000_000, size: Int? = nil, pax: [(String, String)] = []
    ) {
        if !pax.isEmpty {
            var records: [UInt8] = []
            for (key, value) in pax { records += Self.record(key, value) }
            header("PaxHeader", "x", records.count, "", 0o644, 0, 0, time)
            pad(records)
        }
        header(name, kind.rawValue, size ?? (kind == .file ? content.utf8.count : 0), link, mode, uid, gid, time)
        if kind == .file { pad(Array(content.utf8)) }
    }

    mutating func addFolder(_ name: String, mode: Int = 0o755, uid: Int = 0, gid: Int = 0, time: Int = 1_700_000_000) {
        add(name, .folder, mode: mode, uid: uid, gid: gid, time: time)
    }

    /// With the end-of-archive blocks.
    var finished: [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }

    /// "LENGTH KEY=VALUE\n", the length counting itself (pax(1)).
    private static func record(_ key: String, _ value: String) -> [UInt8] {
        let rest = Array(" \(key)=\(value)\n".utf8)
        var length = rest.count + 1
        while "\(length)".utf8.count + rest.count != length { length += 1 }
        return Array("\(length)".utf8) + rest
    }

    private mutating func pad(_ content: [UInt8]) {
        bytes += content
        bytes += [UInt8](repeating: 0, count: (512 - content.count % 512) % 512)
    }

    private mutating func header(
        _ name: String, _ type: Character, _ size: Int, _ link: String, _ mode: Int, _ uid: Int, _ gid: Int, _ time: Int
    ) {
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ text: some Collection<UInt8>, _ at: Int, _ room: Int) {
            for (index, byte) in text.prefix(room).enumerated() { block[at + index] = byte }
        }
        func octal(_ value: Int, _ at: Int, _ digits: Int) {
            let text = String(value, radix: 8)
            put((String(repeating: "0", count: max(0, digits - text.count)) + text).utf8, at, digits)
        }
        put(name.utf8, 0, 100)
        octal(mode, 100, 7)
        octal(uid, 108, 7)
        octal(gid, 116, 7)
        octal(size, 124, 11)
        octal(time, 136, 11)
        put(repeatElement(UInt8(ascii: " "), count: 8), 148, 8)
        block[156] = type.asciiValue!
        put(link.utf8, 157, 100)
        put("ustar\u{0}00".utf8, 257, 8)
        octal(0, 329, 7)
        octal(0, 337, 7)
        octal(block.reduce(0) { $0 + Int($1) }, 148, 6)
        block[154] = 0
        bytes += block
    }
}
