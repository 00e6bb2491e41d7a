import Glibc
import LinuxSystem
import Testing

@testable import XenDriver

/// The client of Xen's store, against a stub on a real socket.
@Suite struct StoreTests {
    // Before any of them, which run on it.
    init() { Loop.runInBackground() }

    @Test("A message is four words and its payload")
    func encoding() throws {
        let message = StoreMessage(.write, request: 0x01020304, ["a/b"], value: "v")
        var bytes = message.encoded + [1, 2]
        #expect(bytes == [11, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 5, 0, 0, 0] + Array("a/b\0v".utf8) + [1, 2])
        #expect(try StoreMessage.take(&bytes) == message)
        #expect(bytes == [1, 2])
        #expect(try StoreMessage.take(&bytes) == nil)
        var large: [UInt8] = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 16, 0, 0]
        #expect(throws: StoreError.self) { try StoreMessage.take(&large) }
    }

    @Test("Questions get their answers, watches their events, and a closed store ends all")
    @Loop func talking() async throws {
        let (ours, theirs) = try makeSocketPair(nonBlocking: true)
        let store = Store(ours)
        let stub = Task { @Loop in
            var bytes: [UInt8] = []
            while true {
                let more = try await readSome(theirs.raw)
                if more.isEmpty { return }
                bytes += more
                while let question = try StoreMessage.take(&bytes) {
                    var answers: [[UInt8]] = []
                    func answer(_ kind: StoreMessage.Kind, _ words: [String]) {
                        answers.append(StoreMessage(kind, request: question.request, words).encoded)
                    }
                    switch (StoreMessage.Kind(rawValue: question.kind), question.words.first) {
                    case (.read, "there"): answer(.read, ["value"])
                    case (.directory, "folder"): answer(.directory, ["one", "two"])
                    case (.write, "there"): answer(question.text == "there" ? .write : .error, ["OK"])
                    case (.watch, "there"):
                        answer(.watch, ["OK"])
                        answer(.watchEvent, ["there", question.words[1]])
                    default: answer(.error, ["ENOENT"])
                    }
                    // In pieces: an answer need not come whole.
                    for byte in answers.joined() { try await writeAll(theirs.raw, [byte]) }
                }
            }
        }
        #expect(try await store.read("there") == "value")
        #expect(try await store.read("elsewhere") == nil)
        #expect(try await store.list("folder") == ["one", "two"])
        #expect(try await store.list("elsewhere").isEmpty)
        try await store.write("there", "value")
        #expect(try await store.value(at: "there", awaiting: "a value", within: .seconds(30)) == "value")
        await #expect(throws: StoreError.self) { try await store.write("elsewhere", "value") }
        stub.cancel()
        _ = await stub.result
        shutdown(theirs.raw, Int32(SHUT_RDWR))
        await #expect(throws: (any Error).self) { try await store.read("there") }
    }

    @Test("What a guest offers is two numbers")
    func offers() {
        #expect(MemoryOffer("12 7") == MemoryOffer("12  7"))
        #expect(MemoryOffer("12 7")?.reference == 12)
        for text in ["", "1", "a b", "1 2 3", "-1 2", "4294967296 1"] { #expect(MemoryOffer(text) == nil) }
    }
}
