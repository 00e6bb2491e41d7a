/// A cpio archive of the kind that the kernel unpacks as its first root: "newc", uncompressed. Pure.
/// (Documentation/driver-api/early-userspace/buffer-format.rst)
struct CPIOArchive: Sendable {
    private(set) var bytes: [UInt8] = []
    private var nextInode = 1

    init() {}

    /// A folder of root's.
    mutating func addFolder(_ path: String, mode: UInt32 = 0o755) { add(path, 0o040000 | mode, []) }

    /// A file of root's.
    mutating func addFile(_ path: String, _ content: [UInt8], mode: UInt32) { add(path, 0o100000 | mode, content) }

    /// Ends the archive; nothing may be added after.
    mutating func finish() {
        add("TRAILER!!!", 0, [])
        pad(512)
    }

    private mutating func add(_ path: String, _ mode: UInt32, _ content: [UInt8]) {
        let isTrailer = mode == 0
        let fields: [Int] = [
            isTrailer ? 0 : nextInode, Int(mode), 0, 0, 1, 0, content.count, 0, 0, 0, 0, path.utf8.count + 1, 0,
        ]
        if !isTrailer { nextInode += 1 }
        bytes += "070701".utf8
        for field in fields {
            let hex = String(field, radix: 16, uppercase: true)
            bytes += String(repeating: "0", count: 8 - hex.count).utf8
            bytes += hex.utf8
        }
        bytes += path.utf8
        bytes.append(0)
        pad(4)
        bytes += content
        pad(4)
    }

    private mutating func pad(_ unit: Int) {
        bytes += [UInt8](repeating: 0, count: (unit - bytes.count % unit) % unit)
    }
}
