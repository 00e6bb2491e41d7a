import Testing

@testable import Netlink

/// Goldens are little-endian, as every machine that Hull runs on is.
@Suite struct MessageTests {
    @Test func encodesHeaders() throws {
        let message = NetlinkMessage(type: 16, flags: 0x605, sequence: 7, payload: [1, 2, 3, 4, 5])
        let bytes = message.encoded()
        #expect(
            bytes == [
                21, 0, 0, 0, 16, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0,
            ])
        #expect(try NetlinkMessage.decode(bytes) == [message])
        #expect(try NetlinkMessage.decode(bytes + bytes) == [message, message])
    }

    @Test func encodesAttributes() throws {
        var attributes = NetlinkAttributes()
        attributes.put(3, "br0")
        attributes.put(4, UInt32(1500))
        attributes.nest(18) { $0.put(1, Array("bridge".utf8)) }
        #expect(
            attributes.bytes == [
                8, 0, 3, 0, 98, 114, 48, 0, 8, 0, 4, 0, 0xdc, 5, 0, 0,
                16, 0, 18, 0, 10, 0, 1, 0, 98, 114, 105, 100, 103, 101, 0, 0,
            ])
        let read = try NetlinkAttributes.decode([9, 9] + attributes.bytes, from: 2)
        #expect(read[3] == [98, 114, 48, 0])
        #expect(read[4] == [0xdc, 5, 0, 0])
        #expect(read.count == 3)
    }

    @Test func encodesRoutes() {
        let route = Route(to: IPNetwork("10.1.2.3/8")!, gateway: IPAddress("192.168.0.1")!, link: 5)
        #expect(RouteMessage.route(route) == [2, 8, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0])
        #expect(
            route.attributes.bytes == [
                8, 0, 1, 0, 10, 0, 0, 0, 8, 0, 5, 0, 192, 168, 0, 1, 8, 0, 4, 0, 5, 0, 0, 0,
            ])
        #expect(
            RouteMessage.address(IPNetwork("fd00::1/64")!, index: 3, flags: 2)
                == [10, 64, 2, 0, 3, 0, 0, 0])
    }

    @Test func refusesWhatIsMalformed() {
        let good = NetlinkMessage(type: 16, payload: [UInt8](repeating: 0, count: 16)).encoded()
        for length in [0, 1, 15, 33, 0xffff_ffff] as [UInt32] {
            var bytes = good
            bytes.replaceSubrange(0..<4, with: withUnsafeBytes(of: length) { Array($0) })
            #expect(throws: MalformedMessage.self) { try NetlinkMessage.decode(bytes) }
        }
        for cut in 1..<16 {
            #expect(throws: MalformedMessage.self) { try NetlinkMessage.decode(Array(good[..<cut])) }
        }
        #expect(throws: MalformedMessage.self) { try NetlinkAttributes.decode([3, 0, 1, 0]) }
        #expect(throws: MalformedMessage.self) { try NetlinkAttributes.decode([9, 0, 1, 0, 1, 2, 3, 4]) }
        #expect(throws: MalformedMessage.self) { try NetlinkAttributes.decode([1, 2], from: 3) }
        #expect(throws: MalformedMessage.self) { try Link(payload: []) }
        #expect(throws: MalformedMessage.self) { try Link(payload: [UInt8](repeating: 0, count: 16)) }
        #expect(throws: MalformedMessage.self) { try LinkAddress(payload: [2, 200, 0, 0, 1, 0, 0, 0, 8, 0, 2, 0, 1, 2, 3, 4]) }
        #expect(throws: MalformedMessage.self) { try LinkAddress(payload: [2, 24, 0]) }
        #expect(throws: MalformedMessage.self) { try Route(payload: [2, 24]) }
        #expect(throws: MalformedMessage.self) {
            try Route(payload: [2, 64, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 1, 2, 3, 4])
        }
    }

    /// Nothing that comes in makes the readers trap or run on.
    @Test func survivesNoise() {
        var generator = SeededRandom(state: 2026)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...96, using: &generator)
            var bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            // Plausible lengths get further.
            for offset in stride(from: 0, to: count - 4, by: 4) where Bool.random(using: &generator) {
                bytes[offset] = UInt8.random(in: 0...40, using: &generator)
                bytes[offset + 1] = 0
                bytes[offset + 2] = UInt8.random(in: 0...30, using: &generator)
                bytes[offset + 3] = 0
            }
            // Each may throw; none may trap.
            for message in (try? NetlinkMessage.decode(bytes)) ?? [] { _ = NetlinkConnection.detail(of: message) }
            _ = try? Link(payload: bytes)
            _ = try? TrackedConnection(payload: bytes)
            _ = try? LinkAddress(payload: bytes)
            _ = try? Route(payload: bytes)
            _ = NetlinkConnection.detail(of: NetlinkMessage(type: 2, flags: 0x300, payload: bytes))
            _ = NetlinkConnection.detail(of: NetlinkMessage(type: 2, flags: 0x200, payload: bytes))
        }
    }
}
