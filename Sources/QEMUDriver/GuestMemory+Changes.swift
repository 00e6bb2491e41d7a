import CLinux
import Glibc
import LinuxSystem

extension GuestMemory {
    /// Adds to `changes` what is another than in `known`, the memory of another moment. The first time all is compared that may be another, and
    /// what the machine has in common with a file in that file; afterwards, what it has of its own and had. As `copy`, it may be called
    /// while the guest runs.
    mutating func record(
        to changes: inout FileChanges, over known: LayeredFile, yield: @Loop () async -> Void
    ) async throws {
        let now = try extents()
        let below = try isCompared ? nil : below()
        let common = try isCompared ? [] : common(with: known, below).without(now)
        let buffers = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * Self.piece, alignment: Self.page)
        defer { buffers.deallocate() }
        let source = UnsafeMutableRawBufferPointer(rebasing: buffers[..<Self.piece])
        let scratch = UnsafeMutableRawBufferPointer(rebasing: buffers[Self.piece...])
        var recorded = 0
        for (range, isOwn) in common.map({ ($0, false) }) + (now + before).joined.map({ ($0, true) }) {
            for place in stride(from: range.lowerBound, to: range.upperBound, by: Self.piece) {
                let bytes = UnsafeMutableRawBufferPointer(rebasing: source[..<min(Self.piece, range.upperBound - place)])
                if isOwn {
                    try read(bytes, at: place)
                } else if let below {
                    try below.read(bytes, at: place)
                } else {
                    bytes.initializeMemory(as: UInt8.self, repeating: 0)
                }
                try changes.record(UnsafeRawBufferPointer(bytes), at: offset + place, over: known, scratch: scratch)
                recorded += bytes.count
                if recorded >= 16 << 20 {
                    recorded = 0
                    await yield()
                }
            }
        }
        isCompared = true
        before = now
    }

    /// What a page is that is not the machine's own; nil where it is zeros.
    private func below() throws -> LayeredFile? {
        guard case .process(_, _, let base?) = place else { return nil }
        return try LayeredFile(base, size: Int(size), Self.name)
    }

    /// The pages that may be another than in `known`, when those that are the machine's own are left aside.
    private func common(with known: LayeredFile, _ below: LayeredFile?) throws -> [Range<Int>] {
        var there = known.ranges
        // Where both are over one file, that is the same on both sides.
        if case .process(_, _, let base?) = place, try known.isOver(base) {
            there = known.changed
        } else if let below {
            there = (there + below.ranges).joined
        }
        return there.compactMap { (range) -> Range<Int>? in
            let here = range.clamped(to: offset..<offset + Int(size))
            if here.isEmpty { return nil }
            let (start, end) = (here.lowerBound - offset, here.upperBound - offset)
            return start / Self.page * Self.page..<(end + Self.page - 1) / Self.page * Self.page
        }.joined
    }
}

extension [Range<Int>] {
    /// The numbers that are in none of `others`; both are in order and do not meet.
    func without(_ others: [Range<Int>]) -> [Range<Int>] {
        var all: [Range<Int>] = []
        var left = others[...]
        for range in self {
            var start = range.lowerBound
            while let next = left.first, next.upperBound <= start { left.removeFirst() }
            for other in left {
                if other.lowerBound >= range.upperBound { break }
                if other.lowerBound > start { all.append(start..<other.lowerBound) }
                start = Swift.max(start, other.upperBound)
            }
            if start < range.upperBound { all.append(start..<range.upperBound) }
        }
        return all
    }
}
