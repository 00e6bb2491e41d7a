import Glibc
import LinuxSystem
import Testing

@Suite struct FileChangesTests {
    private static func withScratch(_ body: (String) throws -> Void) throws {
        let scratch = try Scratch()
        defer { withExtendedLifetime(scratch) {} }
        try body(scratch.path)
    }

    private static func open(_ path: String) throws -> SharedDescriptor { SharedDescriptor(try openFile(path, O_RDWR | O_CREAT)) }

    private static func put(_ bytes: [UInt8], _ place: Int, in path: String) throws {
        let file = try open(path)
        try checked("write", path) { pwrite(file.raw, bytes, bytes.count, place) }
    }

    /// What `path` is, saved as changes over `known`; in two steps when `between` changes it meanwhile.
    private static func save(
        _ path: String, over known: LayeredFile, to target: String, size: Int, between: () throws -> Void = {}
    ) throws {
        var changes = FileChanges(making: try open(target), size: size, target)
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: LayeredFile.piece, alignment: 4096)
        defer { scratch.deallocate() }
        for step in 0...1 {
            if step == 1 { try between() }
            let now = try LayeredFile(base: path, size: size)
            try now.each(in: (now.ranges + known.ranges).joined) { (place, bytes) throws(SystemError) in
                try changes.record(bytes, at: place, over: known, scratch: scratch)
            }
        }
    }

    /// Files that change at random, four layers deep: what is put together again is what was there.
    @Test(arguments: [1 << 20, (1 << 20) - 3000]) func whatIsPutTogetherIsWhatWas(_ size: Int) throws {
        try Self.withScratch { folder in
            var random = SystemRandomNumberGenerator()
            func change(_ path: String) throws {
                for _ in 0..<6 {
                    let count = Int.random(in: 1...40_000, using: &random)
                    let place = Int.random(in: 0..<size - count, using: &random)
                    // Zeros as often as not: they are a change, too.
                    let byte = Bool.random(using: &random) ? 0 : UInt8.random(in: 1...255, using: &random)
                    try Self.put([UInt8](repeating: byte, count: count), place, in: path)
                }
                try Self.put([UInt8.random(in: 1...255)], size - 1, in: path)
            }
            let now = "\(folder)/now"
            truncate(now, 0)
            _ = try Self.open(now)
            truncate(now, size)
            try change(now)
            let base = "\(folder)/base"
            try writeFile(base, try readFile(now), flags: O_WRONLY | O_CREAT)
            var layers: [String] = []
            var states = [try readFile(now)]
            for number in 1...4 {
                try change(now)
                let known = try LayeredFile(base: base, changes: layers, size: size)
                layers.append("\(folder)/changes\(number)")
                try Self.save(now, over: known, to: layers.last!, size: size) { try change(now) }
                states.append(try readFile(now))
                for (count, state) in states.enumerated() {
                    let made = "\(folder)/made"
                    try writeFile(made, try readFile(base), flags: O_WRONLY | O_CREAT | O_TRUNC)
                    let layered = try LayeredFile(base: base, changes: Array(layers.prefix(count)), size: size)
                    try layered.bring(try Self.open(made), made)
                    #expect(try readFile(made) == state)
                    // And read as one, at any block.
                    for _ in 0..<10 {
                        let place = Int.random(in: 0..<size / 4096, using: &random) * 4096
                        var bytes = [UInt8](repeating: 9, count: min(Int.random(in: 1...200_000, using: &random), size - place))
                        try bytes.withUnsafeMutableBytes { try layered.read($0, at: place) }
                        #expect(bytes == Array(state[place..<place + bytes.count]))
                    }
                }
            }
        }
    }

    /// Nothing is stored of what is the same, whatever the holes are like.
    @Test func theSameIsNoChange() throws {
        try Self.withScratch { folder in
            let (one, other, changes) = ("\(folder)/one", "\(folder)/other", "\(folder)/changes")
            for path in [one, other] {
                _ = try Self.open(path)
                truncate(path, 8 << 20)
                try Self.put([1, 2, 3], 1 << 20, in: path)
            }
            try Self.put([UInt8](repeating: 0, count: 1 << 20), 4 << 20, in: other)
            try Self.save(other, over: try LayeredFile(base: one, size: 8 << 20), to: changes, size: 8 << 20)
            #expect(try FileIdentity(changes).size == 0)
            try Self.put([4], (1 << 20) + 1, in: other)
            try Self.save(other, over: try LayeredFile(base: one, size: 8 << 20), to: "\(folder)/2", size: 8 << 20)
            #expect(try FileIdentity("\(folder)/2").size == 4096 + 16)
        }
    }

    /// What nobody wrote is refused, and nothing is read or written beyond the file's size.
    @Test func whatIsNoneIsRefused() throws {
        try Self.withScratch { folder in
            let path = "\(folder)/changes"
            func head(_ place: UInt64, _ count: UInt64, _ bytes: Int) throws {
                var all = [place, count].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) } }
                all += [UInt8](repeating: 1, count: bytes)
                try writeFile(path, all, flags: O_WRONLY | O_CREAT | O_TRUNC)
            }
            func refused() -> Bool {
                do {
                    _ = try FileChanges(reading: try Self.open(path), size: 1 << 20, path)
                    return false
                } catch { return true }
            }
            try head(4096, 4096, 4096)
            #expect(!refused())
            for (place, count, bytes) in [
                (4096, 4096, 4095), (4095, 4096, 4096), (4096, 4095, 4095), (1 << 20, 4096, 4096), (4096, 0, 0),
                (.max, 4096, 4096),
                (1 << 63, 4096, 4096), (4096, .max, 4096), (4096, 1 << 40, 4096), (4096, 2 << 20, 2 << 20),
            ] as [(UInt64, UInt64, Int)] {
                try head(place, count, bytes)
                #expect(refused(), "\(place) \(count) \(bytes)")
            }
            try writeFile(path, [1, 2, 3], flags: O_WRONLY | O_CREAT | O_TRUNC)
            #expect(refused())
        }
    }
}
