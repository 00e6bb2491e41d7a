/// D-Bus messages, as far as asking systemd needs them. Pure. (D-Bus specification, "Type System" and "Message Protocol")
struct BusMessage: Sendable {
    /// A value that is sent, with its type.
    indirect enum Value: Sendable {
        case string(String)
        case boolean(Bool)
        case uint32(UInt32)
        case uint64(UInt64)
        /// An array of equal values; the signature of one.
        case array(String, [Value])
        case structure([Value])
        case variant(Value)

        var signature: String {
            switch self {
            case .string: "s"
            case .boolean: "b"
            case .uint32: "u"
            case .uint64: "t"
            case .array(let item, _): "a\(item)"
            case .structure(let values): "(\(values.map(\.signature).joined()))"
            case .variant: "v"
            }
        }
    }

    /// A call of systemd's manager object, whole.
    static func call(_ member: String, _ arguments: [Value], serial: UInt32) -> [UInt8] {
        var body = Writer()
        for argument in arguments { body.put(argument) }
        var head = Writer()
        // Little-endian, a method call, no flags, version 1.
        head.bytes = [UInt8(ascii: "l"), 1, 0, 1]
        head.put(UInt32(body.bytes.count), size: 4)
        head.put(serial, size: 4)
        var fields = Writer()
        func field(_ code: UInt8, _ type: Unicode.Scalar, _ text: String) {
            fields.align(8)
            fields.bytes += [code, 1, UInt8(ascii: type), 0]
            if type == "g" { fields.putSignature(text) } else { fields.put(.string(text)) }
        }
        field(1, "o", "/org/freedesktop/systemd1")
        field(2, "s", "org.freedesktop.systemd1.Manager")
        field(3, "s", member)
        field(6, "s", "org.freedesktop.systemd1")
        if !arguments.isEmpty { field(8, "g", arguments.map(\.signature).joined()) }
        // The fields begin at a multiple of 8, as `fields` counts them.
        head.put(UInt32(fields.bytes.count), size: 4)
        head.bytes += fields.bytes
        head.align(8)
        return head.bytes + body.bytes
    }

    /// An answer that came: to which call, and the error it is, if it is one.
    struct Answer: Equatable {
        var serial: UInt32
        var error: String?
        var text: String?
    }

    /// Takes the next message off the front of `bytes`: nil while it is not whole, `.some(nil)` for one that answers nothing. Throws where
    /// it is none.
    static func next(_ bytes: inout [UInt8]) throws(SystemError) -> Answer?? {
        guard bytes.count >= 16 else { return nil }
        var reader = Reader(bytes: bytes)
        guard bytes[0] == UInt8(ascii: "l"), bytes[3] == 1 else { throw wrong }
        let length = try reader.number(at: 4)
        let fieldsLength = try reader.number(at: 12)
        guard length <= 1 << 20, fieldsLength <= 1 << 16 else { throw wrong }
        let start = (16 + fieldsLength + 7) & ~7
        guard bytes.count >= start + length else { return nil }
        defer { bytes.removeFirst(start + length) }
        let type = bytes[1]
        guard type == 2 || type == 3 else { return .some(nil) }
        var answer = Answer(serial: 0, error: nil, text: nil)
        reader.at = 16
        while reader.at < 16 + fieldsLength {
            reader.align(8)
            let code = try reader.byte()
            let signature = try reader.signature()
            switch signature {
            case "u":
                let value = try reader.number()
                if code == 5 { answer.serial = UInt32(value) }
            case "s", "o":
                let value = try reader.string()
                if code == 4 { answer.error = value }
            case "g": _ = try reader.signature()
            default: throw wrong
            }
        }
        if type == 3 {
            answer.error = answer.error ?? "an error without a name"
            reader.at = start
            if length > 4 { answer.text = try reader.string() }
        }
        return answer
    }

    fileprivate static let wrong = SystemError("read systemd's answer", code: 71 /* EPROTO */)

    private struct Writer {
        var bytes: [UInt8] = []

        mutating func align(_ size: Int) { while bytes.count % size != 0 { bytes.append(0) } }

        mutating func put(_ number: some FixedWidthInteger, size: Int) {
            align(size)
            for shift in 0..<size { bytes.append(UInt8(truncatingIfNeeded: number >> (8 * shift))) }
        }

        mutating func putSignature(_ text: String) {
            bytes.append(UInt8(text.utf8.count))
            bytes += Array(text.utf8) + [0]
        }

        mutating func put(_ value: Value) {
            switch value {
            case .string(let text):
                put(UInt32(text.utf8.count), size: 4)
                bytes += Array(text.utf8) + [0]
            case .boolean(let flag): put(UInt32(flag ? 1 : 0), size: 4)
            case .uint32(let number): put(number, size: 4)
            case .uint64(let number): put(number, size: 8)
            case .variant(let inner):
                putSignature(inner.signature)
                put(inner)
            case .structure(let values):
                align(8)
                for value in values { put(value) }
            case .array(let item, let values):
                put(UInt32(0), size: 4)
                let at = bytes.count - 4
                if item.hasPrefix("(") || item == "t" { align(8) }
                let start = bytes.count
                for value in values { put(value) }
                let length = UInt32(bytes.count - start)
                for shift in 0..<4 { bytes[at + shift] = UInt8(truncatingIfNeeded: length >> (8 * UInt32(shift))) }
            }
        }
    }

    private struct Reader {
        var bytes: [UInt8]
        var at = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        mutating func align(_ size: Int) { at = (at + size - 1) / size * size }

        mutating func byte() throws(SystemError) -> UInt8 {
            guard at < bytes.count else { throw wrong }
            at += 1
            return bytes[at - 1]
        }

        func number(at place: Int) throws(SystemError) -> Int {
            guard place + 4 <= bytes.count else { throw wrong }
            return (0..<4).reduce(0) { $0 | Int(bytes[place + $1]) << (8 * $1) }
        }

        mutating func number() throws(SystemError) -> Int {
            align(4)
            defer { at += 4 }
            return try number(at: at)
        }

        mutating func string() throws(SystemError) -> String {
            let length = try number()
            guard length >= 0, at + length + 1 <= bytes.count else { throw wrong }
            defer { at += length + 1 }
            return String(decoding: bytes[at..<at + length], as: UTF8.self)
        }

        mutating func signature() throws(SystemError) -> String {
            let length = Int(try byte())
            guard at + length + 1 <= bytes.count else { throw wrong }
            defer { at += length + 1 }
            return String(decoding: bytes[at..<at + length], as: UTF8.self)
        }
    }
}
