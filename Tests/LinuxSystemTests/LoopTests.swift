import Glibc
import Testing

@testable import LinuxSystem

@Suite struct LoopTests {
    init() { Loop.runInBackground() }

    @Loop @Test func timersInOrder() async throws {
        var order: [Int] = []
        let tasks = [30, 10, 20, 0].map { milliseconds in
            Task { @Loop in
                try await sleep(for: .milliseconds(milliseconds))
                order.append(milliseconds)
            }
        }
        for task in tasks { try await task.value }
        #expect(order == [0, 10, 20, 30])
    }

    @Loop @Test func sleepsNotTooShort() async throws {
        let start = ContinuousClock.now
        try await sleep(for: .microseconds(1500))
        #expect(ContinuousClock.now - start >= .microseconds(1500))
    }

    @Loop @Test func cancellingEndsEveryWait() async throws {
        let pipe = try makePipe(nonBlocking: true)
        let tasks = [
            Task { @Loop in try await sleep(for: .seconds(60)) },
            Task { @Loop in try await readable(pipe.read.raw) },
            Task { @Loop in _ = try await readSome(pipe.read.raw) },
        ]
        try await sleep(for: .milliseconds(5))
        for task in tasks { task.cancel() }
        for task in tasks {
            await #expect(throws: CancellationError.self) { try await task.value }
        }
        // One that is cancelled before it begins.
        let early = Task { @Loop in try await sleep(for: .seconds(60)) }
        early.cancel()
        await #expect(throws: CancellationError.self) { try await early.value }
        // The descriptor is as good as new.
        try await writeAll(pipe.write.raw, [7])
        #expect(try await readSome(pipe.read.raw) == [7])
    }

    @Loop @Test func deadlines() async throws {
        do {
            try await withDeadline(.milliseconds(10), awaiting: "the impossible") {
                try await sleep(for: .seconds(60))
            }
            Issue.record("it came")
        } catch let error as DeadlineError {
            #expect(error.sentence.hasPrefix("the impossible did not come within 0.01"))
        }
        #expect(try await withDeadline(.seconds(60), awaiting: "seven") { 7 } == 7)
        // The body's own failure is what is thrown.
        await #expect(throws: SystemError("x", code: EPERM)) {
            try await withDeadline(.seconds(60), awaiting: "a failure") { throw SystemError("x", code: EPERM) }
        }
        // Cancelling from outside is no deadline.
        let task = Task { @Loop in
            try await withDeadline(.seconds(60), awaiting: "nothing") { try await sleep(for: .seconds(60)) }
        }
        try await sleep(for: .milliseconds(5))
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
    }

    @Loop @Test func readAndWriteOfOneDescriptorWaitApart() async throws {
        let (a, b) = try makeSocketPair(nonBlocking: true)
        let reading = Task { @Loop in try await readSome(a.raw) }
        let big = [UInt8](repeating: 1, count: 1 << 20)
        let writing = Task { @Loop in try await writeAll(a.raw, big) }
        try await sleep(for: .milliseconds(5))
        try await writeAll(b.raw, [5])
        #expect(try await reading.value == [5])
        var got = 0
        while got < big.count { got += try await readSome(b.raw).count }
        try await writing.value
    }

    @Loop @Test func twoReadersOfOneDescriptor() async throws {
        let pipe = try makePipe(nonBlocking: true)
        let readers = (0..<2).map { _ in Task { @Loop in try await readSome(pipe.read.raw, capacity: 1) } }
        try await sleep(for: .milliseconds(5))
        try await writeAll(pipe.write.raw, [1, 2])
        let bytes = try await readers[0].value + readers[1].value
        #expect(bytes.sorted() == [1, 2])
    }

    @Loop @Test func endsAndHangUps() async throws {
        var pipe: (read: SharedDescriptor, write: SharedDescriptor)? = try makePipe(nonBlocking: true)
        let read = pipe!.read
        let waiting = Task { @Loop in try await readSome(read.raw) }
        try await sleep(for: .milliseconds(5))
        pipe = nil
        #expect(try await waiting.value == [])

        pipe = try makePipe(nonBlocking: true)
        let write = pipe!.write
        pipe = nil
        // Nobody reads any more: an error, not the end of this process.
        await #expect(throws: SystemError("write", code: EPIPE)) { try await writeAll(write.raw, [1]) }
    }

    @Loop @Test func regularFilesAreAlwaysReady() async throws {
        let scratch = try Scratch()
        let file = SharedDescriptor(try openFile(try scratch.file("f", "hello"), O_RDWR))
        try await readable(file.raw)
        try await writable(file.raw)
        #expect(try await readSome(file.raw) == Array("hello".utf8))
        #expect(try await readSome(file.raw) == [])
    }

    /// A number that is closed and given out again is another descriptor.
    @Loop @Test func numbersAreReused() async throws {
        for round in 0..<20 as Range<UInt8> {
            let pipe = try makePipe(nonBlocking: true)
            let waiting = Task { @Loop in try await readSome(pipe.read.raw) }
            try await sleep(for: .microseconds(100))
            if round % 2 == 0 {
                waiting.cancel()
                await #expect(throws: CancellationError.self) { try await waiting.value }
            } else {
                try await writeAll(pipe.write.raw, [round])
                #expect(try await waiting.value == [round])
            }
        }
    }

    @Loop @Test func closedDescriptorIsAnError() async throws {
        await #expect(throws: SystemError.self) { try await readable(999_999) }
    }

    @Loop @Test func turnsAreTakenInOrder() async throws {
        let turns = Turns()
        var marks: [Int] = []
        let tasks = (0..<4).map { number in
            Task { @Loop in
                try await turns.take {
                    marks.append(number)
                    try await sleep(for: .milliseconds(5 - number))
                    marks.append(number)
                    if number == 1 { throw SystemError("x", code: EPERM) }
                }
            }
        }
        for (number, task) in tasks.enumerated() {
            if number == 1 { await #expect(throws: SystemError.self) { try await task.value } } else { try await task.value }
        }
        #expect(marks == [0, 0, 1, 1, 2, 2, 3, 3])
        #expect(await turns.take { 7 } == 7)
    }
}
