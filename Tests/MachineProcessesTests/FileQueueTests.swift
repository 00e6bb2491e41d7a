import Glibc
import Testing

@testable import MachineProcesses

/// What a guest and a share server may say, and what neither may.
@Suite struct FileQueueTests {
    /// A request of FUSE: its length, what is asked, its number.
    static func request(_ operation: UInt32, number: UInt64 = 7, length: Int = 48) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xAA, count: length)
        bytes.withUnsafeMutableBytes {
            $0.storeBytes(of: UInt32(length), as: UInt32.self)
            $0.storeBytes(of: operation, toByteOffset: 4, as: UInt32.self)
            $0.storeBytes(of: number, toByteOffset: 8, as: UInt64.self)
        }
        return bytes
    }

    @Test("Requests are told apart by their lengths, and an impossible one is refused")
    func lengths() throws {
        #expect(try FileMessage.requestLength([1, 2, 3]) == nil)
        #expect(try FileMessage.requestLength(Self.request(1)[...]) == 48)
        #expect(try FileMessage.requestLength(Self.request(1)[..<4]) == 48)
        for length: UInt32 in [0, 39, UInt32(FileMessage.limit) + 1, .max] {
            let bytes = withUnsafeBytes(of: length) { Array($0) }
            #expect(throws: FileMessage.Malformed.self) { try FileMessage.requestLength(bytes[...]) }
        }
    }

    @Test("A request to interrupt another is answered here: it cannot be had")
    func interrupts() {
        #expect(FileMessage.ownAnswer(Self.request(15)[...]) == nil)
        #expect(
            FileMessage.ownAnswer(Self.request(36, number: 0x0102)[...]) == [
                16, 0, 0, 0, 218, 255, 255, 255, 2, 1, 0, 0, 0, 0, 0, 0,
            ])
    }

    @Test("The room for what is read from a file is what was asked for")
    func room() {
        var request = Self.request(15, length: 80)
        request.replaceSubrange(56..<60, with: [0, 16, 0, 0])
        #expect(FileMessage.answerLimit(request[...]) == 16 + 4096)
        request.replaceSubrange(56..<60, with: [255, 255, 255, 255])
        #expect(FileMessage.answerLimit(request[...]) == 16 + (128 << 10))
        #expect(FileMessage.answerLimit(Self.request(15)[...]) == FileMessage.limit)
        #expect(FileMessage.answerLimit(Self.request(1, length: 80)[...]) == FileMessage.limit)
    }

    @Test("The first answer is bounded to what one message may hold")
    func bounds() throws {
        var answer = [UInt8](repeating: 0, count: 80)
        answer[0] = 80
        // A megabyte to write, and 256 pages.
        answer[38] = 16
        answer[45] = 1
        #expect(try FileMessage.answer(answer, toFirst: false) == answer)
        let bounded = try FileMessage.answer(answer, toFirst: true)
        #expect(Array(bounded[36..<40]) == [0, 0, 2, 0])
        #expect(Array(bounded[44..<46]) == [32, 0])
        answer[0] = 81
        #expect(throws: FileMessage.Malformed.self) { try FileMessage.answer(answer, toFirst: false) }
        #expect(throws: FileMessage.Malformed.self) { try FileMessage.answer([4, 0, 0, 0], toFirst: false) }
    }

    /// A queue, and the hand of a server that writes what it likes.
    final class Stage {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: FileQueue.bytes, alignment: 4096)
        var queue: FileQueue
        private var done: UInt16 = 0

        init() {
            memory.initializeMemory(as: UInt8.self, repeating: 0, count: FileQueue.bytes)
            queue = FileQueue(memory, at: 1 << 32)
        }
        deinit { memory.deallocate() }

        func given(_ index: Int) -> Int {
            Int((memory + FileQueue.available + 4).load(fromByteOffset: 2 * (index % FileQueue.size), as: UInt16.self))
        }
        func descriptor(_ entry: Int) -> (place: Int, length: Int, flags: UInt16, next: UInt16) {
            let place = memory + 16 * entry
            return (
                Int(place.load(as: UInt64.self) - 1 << 32), Int(place.load(fromByteOffset: 8, as: UInt32.self)),
                place.load(fromByteOffset: 12, as: UInt16.self), place.load(fromByteOffset: 14, as: UInt16.self)
            )
        }
        func finish(_ entry: UInt32, _ count: UInt32) {
            let place = memory + FileQueue.used + 4 + 8 * (Int(done) % FileQueue.size)
            place.storeBytes(of: entry, as: UInt32.self)
            place.storeBytes(of: count, toByteOffset: 4, as: UInt32.self)
            done &+= 1
            memory.storeBytes(of: done, toByteOffset: FileQueue.used + 2, as: UInt16.self)
        }
    }

    @Test("Requests go through the queue and come back answered, as often as one likes")
    func roundTrips() throws {
        let stage = Stage()
        for round in 0..<200 {
            let request = Self.request(15, number: UInt64(round))
            stage.queue.give(request[...])
            let entry = stage.given(round)
            let (read, written) = (stage.descriptor(entry), stage.descriptor(entry + 1))
            #expect(read.flags == 1 && Int(read.next) == entry + 1 && written.flags == 2)
            #expect(read.length == request.count && written.length == FileMessage.limit)
            #expect(Array(UnsafeRawBufferPointer(start: stage.memory + read.place, count: read.length)) == request)
            var answer = [UInt8](repeating: UInt8(round), count: 20)
            answer.replaceSubrange(0..<4, with: [20, 0, 0, 0])
            (stage.memory + written.place).copyMemory(from: answer, byteCount: 20)
            #expect(try stage.queue.take() == nil)
            stage.finish(UInt32(entry), 20)
            #expect(try stage.queue.take() == answer)
        }
        // All at once, done in another order; some get no answer.
        for _ in 0..<FileQueue.slots { stage.queue.give(Self.request(2)[...]) }
        #expect(!stage.queue.hasRoom)
        for slot in (0..<FileQueue.slots).reversed() { stage.finish(UInt32(2 * slot), 0) }
        for _ in 0..<FileQueue.slots { #expect(try stage.queue.take() == []) }
        #expect(try stage.queue.take() == nil)
        #expect(stage.queue.hasRoom)
    }

    /// What a server says it is done with, and how many bytes it says it wrote.
    static let wrong: [(entry: UInt32, count: UInt32)] = [
        (1, 0), (32, 0), (.max, 0), (2, 0), (0, UInt32(FileMessage.limit) + 1), (0, 8),
    ]

    @Test("A server that says what cannot be is found out", arguments: wrong)
    func broken(_ entry: UInt32, _ count: UInt32) {
        let stage = Stage()
        stage.queue.give(Self.request(15)[...])
        stage.finish(entry, count)
        #expect(throws: (any Error).self) { try stage.queue.take() }
    }
}
