import CLinux
import Glibc
import LinuxSystem

/// A folder of things that can be made again, each named by what it was made from. Safe with several processes at once and after a kill: a thing
/// is made under a lock, beside its place, and renamed into it whole.
@Loop
struct ContentCache {
    let path: String
    /// How many things of one kind are kept; older ones go when a new one is made.
    static let kept = 8

    /// The path of `kind/name`, made by `make` (which gets an open, empty file of mode 0644) when it is not there.
    func file(_ kind: String, _ name: String, make: (_ file: Int32, _ path: String) async throws -> Void) async throws -> String {
        let place = "\(path)/\(kind)/\(name)"
        if access(place, R_OK) == 0 { return place }
        try makeDirectories("\(path)/\(kind)", mode: 0o755)
        let lock = try await take("\(path)/\(kind)/.lock")
        defer { withExtendedLifetime(lock) {} }
        if access(place, R_OK) == 0 { return place }
        let beside = "\(path)/\(kind)/.new"
        unlink(beside)
        do {
            let file = try openFile(beside, O_RDWR | O_CREAT | O_EXCL, mode: 0o644)
            try checked("set the mode of", beside) { fchmod(file.raw, 0o644) }
            try await make(file.raw, beside)
            // A power cut must not leave an empty file under the name of a whole one.
            let written = try openFile(beside, O_RDONLY)
            try checked("sync", beside) { fsync(written.raw) }
            try checked("rename", place) { rename(beside, place) }
        } catch {
            unlink(beside)
            throw error
        }
        sweep(kind, keeping: name)
        return place
    }

    // Whoever else makes something of this kind takes a second or two.
    private func take(_ path: String) async throws -> FileLock {
        for _ in 0..<6000 {
            if let lock = try FileLock.attempt(path) { return lock }
            try await sleep(for: .milliseconds(20))
        }
        throw KernelError("somebody has held \(path) for two minutes: see who with `fuser \(path)`")
    }

    private func sweep(_ kind: String, keeping name: String) {
        // What cannot be listed or removed now is removed another time.
        let names = ((try? listDirectory("\(path)/\(kind)")) ?? []).filter { !$0.hasPrefix(".") && $0 != name }
        let dated = names.map { name -> (String, Int) in
            var status = stat()
            return (name, stat("\(path)/\(kind)/\(name)", &status) == 0 ? Int(status.st_mtim.tv_sec) : 0)
        }
        for (name, _) in dated.sorted(by: { $0.1 > $1.1 }).dropFirst(Self.kept - 1) { unlink("\(path)/\(kind)/\(name)") }
    }
}

/// What a file is known by without being read: where it is, its size, and when it was written and changed.
struct FileStamp: Sendable, Hashable {
    var text: String

    init(_ path: String) throws {
        var status = stat()
        try checked("look at", path) { stat(path, &status) }
        text =
            "\(path)|\(status.st_dev)|\(status.st_ino)|\(status.st_size)|\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)|\(status.st_ctim.tv_sec).\(status.st_ctim.tv_nsec)"
    }
}

/// A short name for a list of words: FNV-1a, twice 64 bits. It tells apart what is honestly different; nobody but root writes the cache.
enum ShortName {
    static func of(_ words: [String]) -> String {
        var (one, two): (UInt64, UInt64) = (0xCBF2_9CE4_8422_2325, 0x6C62_272E_07BB_0142)
        for word in words {
            for byte in word.utf8 {
                one = (one ^ UInt64(byte)) &* 0x100_0000_01B3
                two = (two ^ UInt64(byte) ^ 0x5A) &* 0x100_0000_01B3
            }
            one = (one ^ 0xFF) &* 0x100_0000_01B3
            two = (two ^ 0xA5) &* 0x100_0000_01B3
        }
        return [one, two].map { value in
            let hex = String(value, radix: 16)
            return String(repeating: "0", count: 16 - hex.count) + hex
        }.joined()
    }
}
