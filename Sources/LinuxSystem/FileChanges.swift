import CLinux
import Glibc

/// What is different in a file from another one: runs of bytes, in the order in which they were found. A block may come more than once: the
/// last one counts, so that a copy can be brought up to date by appending.
///
/// Each run has sixteen bytes before it, little-endian: its place in the file (8) and its length (8). Places are multiples of `block`, and so
/// are lengths, but for one that ends where the file does. There are no holes in it that mean something: zeros are bytes like others.
public struct FileChanges: Sendable {
    /// The unit of comparing, in bytes: a page of memory, a block of a disk.
    public static let block = 4096
    /// The longest run.
    static let longest = 1 << 20
    private static let head = 16

    private let file: SharedDescriptor
    private let name: String
    /// Bytes of the files that it is about, at most.
    public let size: Int
    /// Where the newest bytes of a block are.
    private var places: [Int: Int] = [:]
    /// The runs: where each is in the file that changed, and where its bytes are here.
    private var runs: [(place: Range<Int>, start: Int)] = []
    private var end = 0

    /// None so far, to be kept in `file`, which is empty and open for reading and writing.
    public init(making file: SharedDescriptor, size: Int, _ name: String) {
        self.file = file
        self.size = size
        self.name = name
    }

    /// Those in `file`. Throws EINVAL where that is nothing that was written here, for files of at most `size` bytes.
    public init(reading file: SharedDescriptor, size: Int, _ name: String) throws(SystemError) {
        self.init(making: file, size: size, name)
        var status = stat()
        try checked("look at", name) { fstat(file.raw, &status) }
        let length = Int(status.st_size)
        while end < length {
            var words: (UInt64, UInt64) = (0, 0)
            let got = try checked("read", name) { pread(file.raw, &words, Self.head, end) }
            let place = Int(exactly: UInt64(littleEndian: words.0))
            let count = Int(exactly: UInt64(littleEndian: words.1))
            guard got == Self.head, let place, let count, place % Self.block == 0, place <= size,
                (1...Self.longest).contains(count), count <= size - place, count % Self.block == 0 || place + count == size,
                count <= length - end - Self.head
            else { throw SystemError("read", name, code: EINVAL) }
            note(place, count)
        }
    }

    private mutating func note(_ place: Int, _ count: Int) {
        let start = end + Self.head
        runs.append((place..<place + count, start))
        for offset in stride(from: 0, to: count, by: Self.block) { places[(place + offset) / Self.block] = start + offset }
        end = start + count
    }

    /// Where the file is different, in the order of its bytes.
    public var ranges: [Range<Int>] { runs.map(\.place).joined }

    /// Adds a run.
    public mutating func append(_ bytes: UnsafeRawBufferPointer, at place: Int) throws(SystemError) {
        precondition(place % Self.block == 0 && place + bytes.count <= size, "a run is of whole blocks of the file")
        var done = 0
        while done < bytes.count {
            let count = min(Self.longest, bytes.count - done)
            var words = (UInt64(place + done).littleEndian, UInt64(count).littleEndian)
            try withUnsafeBytes(of: &words) { (head) throws(SystemError) in try write(head, at: end) }
            try write(UnsafeRawBufferPointer(rebasing: bytes[done..<done + count]), at: end + Self.head)
            note(place + done, count)
            done += count
        }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at place: Int) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            done += try checked("write", name) {
                pwrite(file.raw, bytes.baseAddress! + done, bytes.count - done, place + done)
            }
        }
    }

    /// Puts what is different into `buffer`, which holds the bytes from `place` on, a block's begin, of the file before.
    public func apply(to buffer: UnsafeMutableRawBufferPointer, at place: Int) throws(SystemError) {
        if places.isEmpty { return }
        var offset = 0
        while offset < buffer.count {
            guard let first = places[(place + offset) / Self.block] else {
                offset += Self.block
                continue
            }
            // What lies together is read at once.
            var count = min(Self.block, buffer.count - offset)
            while offset + count < buffer.count, places[(place + offset + count) / Self.block] == first + count {
                count += min(Self.block, buffer.count - offset - count)
            }
            try read(UnsafeMutableRawBufferPointer(rebasing: buffer[offset..<offset + count]), at: first)
            offset += count
        }
    }

    /// Calls `body` with each run, in the order in which they were found: done one after the other, they make the file what it became.
    public func each(_ body: (_ place: Int, _ bytes: UnsafeRawBufferPointer) throws(SystemError) -> Void) throws(SystemError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.longest, alignment: Self.block)
        defer { buffer.deallocate() }
        for run in runs {
            let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<run.place.count])
            try read(bytes, at: run.start)
            try body(run.place.lowerBound, UnsafeRawBufferPointer(bytes))
        }
    }

    private func read(_ buffer: UnsafeMutableRawBufferPointer, at place: Int) throws(SystemError) {
        var done = 0
        while done < buffer.count {
            let got = try checked("read", name) { pread(file.raw, buffer.baseAddress! + done, buffer.count - done, place + done) }
            guard got > 0 else { throw SystemError("read", name, code: EIO) }
            done += got
        }
    }

    /// Appends the blocks of `bytes`, which `file` has at `place` now, that are others than in `before` with the changes so far. `scratch` is as
    /// long as `bytes` at least.
    public mutating func record(
        _ bytes: UnsafeRawBufferPointer, at place: Int, over before: LayeredFile, scratch: UnsafeMutableRawBufferPointer
    ) throws(SystemError) {
        let known = UnsafeMutableRawBufferPointer(rebasing: scratch[..<bytes.count])
        try before.read(known, at: place)
        try apply(to: known, at: place)
        var first: Int?
        for offset in stride(from: 0, through: bytes.count + Self.block - 1, by: Self.block) {
            let count = min(Self.block, bytes.count - offset)
            if count > 0, memcmp(bytes.baseAddress! + offset, known.baseAddress! + offset, count) != 0 {
                if first == nil { first = offset }
            } else if let begin = first {
                try append(UnsafeRawBufferPointer(rebasing: bytes[begin..<min(offset, bytes.count)]), at: place + begin)
                first = nil
            }
        }
    }
}

/// A file and what changed in it since, by layers, of which each is about the result of those before. Beyond the end of the file there are zeros.
public struct LayeredFile: Sendable {
    /// At once, in bytes.
    public static let piece = 128 << 10

    private let base: SharedDescriptor
    private let name: String
    /// Where the file has data, in order.
    private let filled: [Range<Int>]
    private let layers: [FileChanges]

    /// Of the files at `base` and `changes`, the oldest first, of at most `size` bytes. Throws where one of them is none.
    public init(base: String, changes: [String] = [], size: Int) throws(SystemError) {
        self.base = SharedDescriptor(try openFile(base, O_RDONLY))
        name = base
        filled = try dataRanges(of: self.base, below: size, base)
        var layers: [FileChanges] = []
        for path in changes {
            layers.append(try FileChanges(reading: SharedDescriptor(try openFile(path, O_RDONLY)), size: size, path))
        }
        self.layers = layers
    }

    /// Of an open file alone, as it is now.
    public init(_ file: SharedDescriptor, size: Int, _ name: String) throws(SystemError) {
        base = file
        self.name = name
        filled = try dataRanges(of: file, below: size, name)
        layers = []
    }

    /// Where it may have something else than zeros, in order.
    public var ranges: [Range<Int>] { (filled + changed).joined }
    /// Where it is another than the file at its bottom, in order.
    public var changed: [Range<Int>] { layers.flatMap(\.ranges).joined }
    /// The file at its bottom.
    public func isOver(_ file: SharedDescriptor) throws(SystemError) -> Bool {
        var (one, other) = (stat(), stat())
        try checked("look at", name) { fstat(base.raw, &one) }
        try checked("look at", name) { fstat(file.raw, &other) }
        return one.st_dev == other.st_dev && one.st_ino == other.st_ino
    }

    /// Fills `buffer` with what is at `place`, a block's begin. Holes are not read: a filesystem takes its time to make zeros of them.
    public func read(_ buffer: UnsafeMutableRawBufferPointer, at place: Int) throws(SystemError) {
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        let wanted = place..<place + buffer.count
        // The first that ends behind the place.
        var (low, high) = (0, filled.count)
        while low < high {
            let middle = (low + high) / 2
            if filled[middle].upperBound > wanted.lowerBound { high = middle } else { low = middle + 1 }
        }
        while low < filled.count, filled[low].lowerBound < wanted.upperBound {
            let range = filled[low].clamped(to: wanted)
            var done = 0
            while done < range.count {
                let got = try checked("read", name) {
                    pread(
                        base.raw, buffer.baseAddress! + (range.lowerBound - place + done), range.count - done,
                        range.lowerBound + done)
                }
                if got == 0 { break }  // it was made shorter, by who writes to it
                done += got
            }
            low += 1
        }
        for layer in layers { try layer.apply(to: buffer, at: place) }
    }

    /// Calls `body` with all that may be something else than zeros, piece by piece.
    public func each(
        in ranges: [Range<Int>], _ body: (_ place: Int, _ bytes: UnsafeRawBufferPointer) throws(SystemError) -> Void
    ) throws(SystemError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.piece, alignment: FileChanges.block)
        defer { buffer.deallocate() }
        for range in ranges {
            // Reading begins with a block.
            var place = range.lowerBound / FileChanges.block * FileChanges.block
            while place < range.upperBound {
                let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(Self.piece, range.upperBound - place)])
                try read(bytes, at: place)
                try body(place, UnsafeRawBufferPointer(bytes))
                place += bytes.count
            }
        }
    }

    /// Does the changes to a copy of the file at the bottom, which is `target`.
    public func bring(_ target: SharedDescriptor, _ name: String) throws(SystemError) {
        for layer in layers {
            try layer.each { (place, bytes) throws(SystemError) in
                var done = 0
                while done < bytes.count {
                    done += try checked("write", name) {
                        pwrite(target.raw, bytes.baseAddress! + done, bytes.count - done, place + done)
                    }
                }
            }
        }
    }
}

/// Where a file has data below `size`, in order, as its filesystem says (SEEK_DATA, lseek(2)).
public func dataRanges(of file: SharedDescriptor, below size: Int, _ name: String) throws(SystemError) -> [Range<Int>] {
    var all: [Range<Int>] = []
    var place = 0
    while place < size {
        let start = lseek(file.raw, place, 3 /* SEEK_DATA */)
        if start < 0, errno == ENXIO { break }  // only a hole is left
        guard start >= 0 else { throw SystemError("read", name) }
        if Int(start) >= size { break }
        let end = try checked("read", name) { lseek(file.raw, start, 4 /* SEEK_HOLE */) }
        all.append(Int(start)..<min(Int(end), size))
        place = Int(end)
    }
    return all
}

extension [Range<Int>] {
    /// The same numbers in ranges that are in order and do not meet.
    public var joined: [Range<Int>] {
        var all: [Range<Int>] = []
        for range in sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = all.last, range.lowerBound <= last.upperBound {
                all[all.count - 1] = last.lowerBound..<Swift.max(last.upperBound, range.upperBound)
            } else {
                all.append(range)
            }
        }
        return all
    }
}
