import Testing

@testable import LinuxSystem

@Suite struct SystemdTests {
    /// As `dbus-monitor` and the specification have it: the header, its fields each at a multiple of 8, the body at one too.
    @Test("A call is written as D-Bus has it") func call() {
        let bytes = BusMessage.call("Stop", [.string("a.scope"), .boolean(true)], serial: 7)
        #expect(Array(bytes[..<4]) == [0x6c, 1, 0, 1])
        #expect(Array(bytes[4..<12]) == [16, 0, 0, 0, 7, 0, 0, 0])
        #expect(bytes.count % 8 == 0)
        let body = Array(bytes.suffix(16))
        #expect(body == [7, 0, 0, 0] + Array("a.scope".utf8) + [0] + [1, 0, 0, 0])
        let text = String(decoding: bytes.map { $0 == 0 ? 0x2e : $0 }, as: UTF8.self)
        for part in ["/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Stop", "sb"] {
            #expect(text.contains(part))
        }
    }

    @Test("Arrays, structures and variants are aligned") func values() {
        let bytes = BusMessage.call(
            "M", [.string("x"), .array("(sv)", [.structure([.string("P"), .variant(.uint64(9))])]), .array("(sa(sv))", [])],
            serial: 1)
        let body = Array(bytes.suffix(Int(bytes[4])))
        #expect(
            body == [1, 0, 0, 0, 0x78, 0, 0, 0]  // "x", and room before the array's length
                + [24, 0, 0, 0] + [0, 0, 0, 0]  // its length, and room before its first structure
                + [1, 0, 0, 0, 0x50, 0, 1, 0x74, 0, 0, 0, 0, 0, 0, 0, 0] + [9, 0, 0, 0, 0, 0, 0, 0]  // "P", 't', the number
                + [0, 0, 0, 0, 0, 0, 0, 0])  // an empty array, and room where its first would be
    }

    private static func message(type: UInt8, fields: [UInt8], body: [UInt8]) -> [UInt8] {
        var all: [UInt8] = [0x6c, type, 1, 1, UInt8(body.count), 0, 0, 0, 3, 0, 0, 0, UInt8(fields.count), 0, 0, 0] + fields
        while all.count % 8 != 0 { all.append(0) }
        return all + body
    }

    @Test("Answers are read, in pieces and among signals") func answers() throws {
        let serial: [UInt8] = [5, 1, 0x75, 0, 7, 0, 0, 0]
        let error: [UInt8] = [4, 1, 0x73, 0, 3, 0, 0, 0] + Array("a.B".utf8) + [0]
        let signal = Self.message(type: 4, fields: [], body: [])
        let good = Self.message(type: 2, fields: serial, body: [])
        let bad = Self.message(type: 3, fields: serial + error, body: [2, 0, 0, 0, 0x6e, 0x6f, 0])
        var bytes: [UInt8] = []
        for byte in signal { bytes.append(byte); if bytes.count < signal.count { #expect(try BusMessage.next(&bytes) == nil) } }
        bytes += good + bad
        #expect(try BusMessage.next(&bytes) == .some(nil))
        #expect(try BusMessage.next(&bytes) == .init(serial: 7, error: nil, text: nil))
        #expect(try BusMessage.next(&bytes) == .init(serial: 7, error: "a.B", text: "no"))
        #expect(bytes.isEmpty)
        for broken in [
            [0x42] + good.dropFirst(), Self.message(type: 2, fields: [5, 1, 0x78, 0], body: []),
            Self.message(type: 3, fields: [4, 1, 0x73, 0, 200, 0, 0, 0], body: []),
        ] {
            var bytes = Array(broken)
            #expect(throws: SystemError.self) { try BusMessage.next(&bytes) }
        }
    }

    @Test("Maps of user ids") func maps() {
        let map = "         0       1000          1\n         1     100000      65536\n"
        #expect(
            UserNamespace.parse(map) == [
                .init(inside: 0, outside: 1000, count: 1), .init(inside: 1, outside: 100000, count: 65536),
            ])
        #expect(UserNamespace.parse("0 0 4294967295\n") == [.init(inside: 0, outside: 0, count: .max)])
        #expect(UserNamespace.parse("nonsense\n\n1 2\n").isEmpty)
    }
}
