/// Cuts a byte stream into frames, in bounded memory; pure.
///
/// It begins *hunting*: it discards everything up to a synchronise frame (with the expected number, when one is
/// expected). So what was left in the carrier by an earlier connection, or was written there by a boot loader, is passed over.
public struct FrameDecoder: Sendable {
    private var buffer: [UInt8] = []
    private var head = 0
    private var tail = 0
    private let maximum: Int
    private var hunting = true
    private var expected: UInt64?

    /// A decoder that refuses payloads above `maximum` bytes.
    public init(maximum: Int) {
        self.maximum = maximum
    }

    /// Discards everything up to the next synchronise frame; with `epoch`, up to the one with that number.
    public mutating func hunt(epoch: UInt64?) {
        hunting = true
        expected = epoch
    }

    /// How many bytes wait to be cut.
    public var buffered: Int { tail - head }

    /// Adds bytes that arrived.
    public mutating func append(_ bytes: [UInt8]) {
        makeSpace(bytes.count)
        for (index, byte) in bytes.enumerated() { buffer[tail + index] = byte }
        tail += bytes.count
    }

    /// Lets `body` write up to `count` arriving bytes where they belong; it returns how many it wrote (nothing if not positive).
    public mutating func fill(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int) -> Int {
        makeSpace(count)
        let start = tail
        let written = buffer.withUnsafeMutableBytes { body(UnsafeMutableRawBufferPointer(rebasing: $0[start..<(start + count)])) }
        if written > 0 { tail += min(written, count) }
        return written
    }

    /// The next whole frame, nil while more bytes are needed.
    public mutating func next() throws(WireError) -> Frame? {
        if hunting, !found() { return nil }
        guard tail - head >= FrameHeader.size else { return nil }
        guard let header = FrameHeader(buffer, at: head) else { throw .notAFrame }
        let length = Int(header.length)
        guard length <= maximum else { throw .tooLarge }
        guard tail - head >= FrameHeader.size + length else { return nil }
        let start = head + FrameHeader.size
        let payload = Array(buffer[start..<(start + length)])
        head = start + length
        if head == tail {
            head = 0
            tail = 0
        }
        return Frame(header, payload)
    }

    /// Moves to a synchronise frame that fits; false while there is none.
    private mutating func found() -> Bool {
        let pattern = FrameHeader.synchronisation
        while tail - head >= FrameHeader.size {
            var matches = true
            for index in 0..<pattern.count where buffer[head + index] != pattern[index] {
                matches = false
                break
            }
            if matches, let header = FrameHeader(buffer, at: head), expected == nil || expected == header.offset {
                hunting = false
                expected = nil
                return true
            }
            head += 1
        }
        return false
    }

    private mutating func makeSpace(_ count: Int) {
        if buffer.count - tail >= count { return }
        if head > 0 {
            let waiting = tail - head
            buffer.withUnsafeMutableBytes { raw in
                if let base = raw.baseAddress { base.copyMemory(from: base + head, byteCount: waiting) }
            }
            head = 0
            tail = waiting
        }
        if buffer.count - tail < count {
            let size = max(tail + count, buffer.count * 2, 65536)
            buffer.append(contentsOf: repeatElement(0, count: size - buffer.count))
        } else if buffer.count > 1 << 18, tail + count <= 1 << 17 {
            // A rare large message must not keep its memory for ever.
            buffer = Array(buffer[0..<(1 << 17)])
        }
    }
}
