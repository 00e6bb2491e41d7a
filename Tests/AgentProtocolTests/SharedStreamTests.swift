import AgentProtocol
import Testing

/// Two ends of a stream in one piece of memory, without a hypervisor.
@Suite struct SharedStreamTests {
    /// Both ends, and the memory, which is whole pages.
    private static func withEnds(
        _ body: (inout SharedStream, inout SharedStream, UnsafeMutableRawPointer) throws -> Void
    ) throws {
        let count = SharedStream.page + SharedStream.ringPages * SharedStream.page
        let memory = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: SharedStream.page)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0xAA, count: count)
        var server = SharedStream(serving: memory, rings: memory + SharedStream.page)
        var client = try SharedStream(joining: memory, rings: memory + SharedStream.page)
        try body(&server, &client, memory)
    }

    private static func write(_ end: inout SharedStream, _ bytes: [UInt8]) throws -> Int {
        try bytes.withUnsafeBytes { try end.write($0) }
    }

    private static func read(_ end: inout SharedStream, _ count: Int) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let got = try buffer.withUnsafeMutableBytes { try end.read(into: $0) }
        return Array(buffer[..<got])
    }

    @Test("Bytes arrive whole both ways, whatever the pieces, round the rings many times")
    func bothWays() throws {
        try Self.withEnds { (server, client, _) throws in
            var random = SeededRandom(state: 7)
            var (sent, got) = ([[UInt8]](repeating: [], count: 2), [[UInt8]](repeating: [], count: 2))
            for _ in 0..<2000 {
                let piece = (0..<Int.random(in: 1...3000, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
                let toClient = try Self.write(&server, piece)
                sent[0] += piece[..<toClient]
                let toServer = try Self.write(&client, piece.reversed())
                sent[1] += piece.reversed()[..<toServer]
                got[0] += try Self.read(&client, Int.random(in: 1...3500, using: &random))
                got[1] += try Self.read(&server, Int.random(in: 1...3500, using: &random))
            }
            got[0] += try Self.read(&client, SharedStream.size)
            got[1] += try Self.read(&server, SharedStream.size)
            #expect(sent[0].count > 4 * SharedStream.size)
            #expect(sent[0] == got[0])
            #expect(sent[1] == got[1])
        }
    }

    @Test("What the other end has not taken can be given to the next one, also where it goes round the ring's end")
    func untaken() throws {
        try Self.withEnds { (server, client, _) throws in
            #expect(try server.untaken() == [])
            let bytes = (0..<SharedStream.size).map { UInt8(truncatingIfNeeded: $0 * 7) }
            #expect(try Self.write(&server, bytes) == bytes.count)
            #expect(try server.untaken() == bytes)
            #expect(try Self.read(&client, 1000).count == 1000)
            #expect(try server.untaken() == Array(bytes[1000...]))
            #expect(try Self.write(&server, Array(bytes[..<900])) == 900)
            let round = Array(bytes[1000...]) + Array(bytes[..<900])
            #expect(try server.untaken() == round)
            #expect(try Self.read(&client, SharedStream.size) == round)
            #expect(try server.untaken() == [])
        }
    }

    @Test("A full ring takes nothing, and its reader tells when there is room")
    func full() throws {
        try Self.withEnds { (server, client, _) throws in
            let much = [UInt8](repeating: 1, count: SharedStream.size + 10)
            #expect(try Self.write(&client, much) == SharedStream.size)
            #expect(try Self.write(&client, much) == 0)
            #expect(try Self.read(&server, 10).count == 10)
            let mustTell = server.takeNotice()
            #expect(mustTell)
            #expect(try Self.write(&client, much) == 10)
        }
    }

    @Test("Who waits for bytes is told of the first, and not again before it has looked")
    func notices() throws {
        try Self.withEnds { (server, client, _) throws in
            #expect(try Self.read(&server, 10).isEmpty)
            _ = client.takeNotice()
            #expect(try Self.write(&client, [1]) == 1)
            let first = client.takeNotice()
            #expect(try Self.write(&client, [2]) == 1)
            let second = client.takeNotice()
            #expect(first)
            #expect(!second)
            #expect(try Self.read(&server, 10) == [1, 2])
            #expect(try Self.write(&client, [3]) == 1)
            let third = client.takeNotice()
            #expect(third)
        }
    }

    @Test("Indexes that cannot be are an error, never bytes from elsewhere")
    func hostile() throws {
        try Self.withEnds { (server, client, memory) throws in
            // The client's writer index, and the client's reader index of what the server writes.
            memory.storeBytes(of: UInt32(SharedStream.size + 1), toByteOffset: 4, as: UInt32.self)
            #expect(throws: WireError.wrongOffset) { try Self.read(&server, 10) }
            memory.storeBytes(of: 1, toByteOffset: 8, as: UInt32.self)
            #expect(throws: WireError.wrongOffset) { try Self.write(&server, [1]) }
            memory.storeBytes(of: 12, toByteOffset: 18, as: UInt16.self)
            #expect(throws: WireError.malformed) { try SharedStream(joining: memory, rings: memory + SharedStream.page) }
            _ = client.takeNotice()
        }
    }
}
