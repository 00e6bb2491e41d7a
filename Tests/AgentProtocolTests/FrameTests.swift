import AgentProtocol
import Testing

@Suite struct FrameTests {
    private let hello = FrameHeader(.synchronise, offset: 77).encoded

    @Test func cutsFramesHoweverTheyArrive() throws {
        let frames = [
            Frame(FrameHeader(.request, type: 3, id: 9), [1, 2, 3]), Frame(FrameHeader(.credit, type: 1, id: 4, offset: 1 << 40)),
            Frame(FrameHeader(.data, type: 1, id: 4, offset: 12), [UInt8](repeating: 7, count: 5000)),
        ]
        let bytes = hello + frames.flatMap(\.encoded)
        for piece in [1, 2, 7, 23, 24, 25, 4096, bytes.count] {
            var decoder = FrameDecoder(maximum: 8192)
            var got: [Frame] = []
            var start = 0
            while start < bytes.count {
                decoder.append(Array(bytes[start..<min(start + piece, bytes.count)]))
                start += piece
                while let frame = try decoder.next() { got.append(frame) }
            }
            #expect(got.first?.header.kind == .synchronise)
            #expect(got.first?.header.offset == 77)
            #expect(Array(got.dropFirst()) == frames)
        }
    }

    @Test func huntsOverGarbageAndOldEpochs() throws {
        var decoder = FrameDecoder(maximum: 8192)
        decoder.hunt(epoch: 77)
        let old = Frame(FrameHeader(.data, type: 1, id: 1), [UInt8](repeating: 0x48, count: 100)).encoded
        let garbage = Array("Linux version 6.1 H".utf8) + FrameHeader.synchronisation.prefix(9)
        decoder.append(Array(old.dropFirst(13)) + garbage + FrameHeader(.synchronise, offset: 76).encoded + old + hello + old)
        #expect(try decoder.next()?.header.offset == 77)
        #expect(try decoder.next()?.payload.count == 100)
        #expect(try decoder.next() == nil)
    }

    @Test func refusesOversizeAndGarbage() throws {
        var decoder = FrameDecoder(maximum: 100)
        decoder.append(hello + FrameHeader(.request, length: 101).encoded)
        _ = try decoder.next()
        #expect(throws: WireError.tooLarge) { try decoder.next() }
        decoder = FrameDecoder(maximum: 100)
        decoder.append(hello + [UInt8](repeating: 0x58, count: 24))
        _ = try decoder.next()
        #expect(throws: WireError.notAFrame) { try decoder.next() }
    }

    @Test func staysSmallWhileNothingFits() throws {
        var decoder = FrameDecoder(maximum: 100)
        for _ in 0..<1000 {
            decoder.append([UInt8](repeating: 0x48, count: 1000))
            #expect(try decoder.next() == nil)
            #expect(decoder.buffered < FrameHeader.size)
        }
    }

    @Test func queueKeepsOrder() {
        var queue = ByteQueue()
        var out: [UInt8] = []
        var next: UInt8 = 0
        for round in 0..<300 {
            queue.append(
                (0..<(round % 50)).map { _ in
                    next &+= 1; return next
                })
            _ = queue.drain { bytes in
                let count = min(bytes.count, round % 37)
                out += bytes.prefix(count)
                return count
            }
        }
        _ = queue.drain {
            out += $0; return $0.count
        }
        #expect(queue.isEmpty)
        #expect(zip(out, out.dropFirst()).allSatisfy { $0 &+ 1 == $1 })
    }
}

@Suite struct FlowControlTests {
    @Test func senderKeepsToCredit() {
        var window = SendWindow(limit: 100)
        #expect(window.allowance == 100)
        window.sent(60)
        #expect(window.allowance == 40)
        window.allow(upTo: 90)
        #expect(window.allowance == 40)
        window.allow(upTo: 200)
        #expect(window.allowance == 140)
    }

    @Test func receiverRefusesTooMuchAndTheWrongPlace() throws {
        var window = ReceiveWindow(window: 100)
        try window.accept(at: 0, count: 100)
        #expect(throws: WireError.creditExceeded) { try window.accept(at: 100, count: 1) }
        #expect(throws: WireError.wrongOffset) { try window.accept(at: 99, count: 1) }
        #expect(window.take(10) == nil)
        #expect(window.take(40) == 150)
        try window.accept(at: 100, count: 50)
        try window.acceptEnd(at: 150)
        #expect(throws: WireError.afterEnd) { try window.accept(at: 150, count: 0) }
    }

    @Test func continuesAtAHostileOffset() throws {
        var window = ReceiveWindow(offset: UInt64.max)
        #expect(throws: WireError.wrongOffset) { try window.accept(at: UInt64.max, count: 1) }
    }
}
