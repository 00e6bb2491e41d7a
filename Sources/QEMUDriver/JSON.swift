/// A JSON value (RFC 8259), as far as QMP uses them. A parser of its own: Foundation's costs a start-up what a whole
/// machine's configuration may not, and bounds neither depth nor size.
enum JSON: Hashable, Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    subscript(_ key: String) -> JSON? {
        if case .object(let members) = self { members[key] } else { nil }
    }
    var text: String? { if case .string(let text) = self { text } else { nil } }
    var count: Int64? { if case .integer(let count) = self { count } else { nil } }
    var truth: Bool? { if case .bool(let truth) = self { truth } else { nil } }

    /// As bytes, on one line; members sorted by name, so that goldens can be written.
    var encoded: String {
        switch self {
        case .null: "null"
        case .bool(let truth): truth ? "true" : "false"
        case .integer(let count): "\(count)"
        case .number(let value): "\(value)"
        case .string(let text): Self.quoted(text)
        case .array(let elements): "[" + elements.map(\.encoded).joined(separator: ",") + "]"
        case .object(let members):
            "{"
                + members.sorted { $0.key < $1.key }.map { "\(Self.quoted($0.key)):\($0.value.encoded)" }
                .joined(separator: ",") + "}"
        }
    }

    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case _ where scalar.value < 0x20:
                let hex = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}

/// What is wrong with a text that should have been JSON.
struct JSONError: Error, Hashable, CustomStringConvertible {
    var reason: String
    var offset: Int
    var description: String { "\(reason) at byte \(offset)" }
}

extension JSON {
    /// Parses one value with nothing but white space around it, nested at most `depth` deep.
    init(parsing bytes: [UInt8], depth: Int = 32) throws(JSONError) {
        var parser = JSONParser(bytes: bytes)
        self = try parser.value(depth)
        parser.skipSpace()
        if parser.offset != bytes.count { throw parser.failure("something follows the value") }
    }
}

private struct JSONParser {
    let bytes: [UInt8]
    var offset = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    func failure(_ reason: String) -> JSONError { JSONError(reason: reason, offset: offset) }
    var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    mutating func skipSpace() {
        while let byte = next, byte == 32 || byte == 9 || byte == 10 || byte == 13 { offset += 1 }
    }

    mutating func take(_ byte: UInt8) -> Bool {
        skipSpace()
        guard next == byte else { return false }
        offset += 1
        return true
    }

    mutating func value(_ depth: Int) throws(JSONError) -> JSON {
        if depth == 0 { throw failure("nested too deep") }
        skipSpace()
        switch next {
        case UInt8(ascii: "{"): return try object(depth)
        case UInt8(ascii: "["):
            offset += 1
            var elements: [JSON] = []
            if take(UInt8(ascii: "]")) { return .array([]) }
            repeat { elements.append(try value(depth - 1)) } while take(UInt8(ascii: ","))
            guard take(UInt8(ascii: "]")) else { throw failure("an array does not end") }
            return .array(elements)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return try number()
        }
    }

    private mutating func object(_ depth: Int) throws(JSONError) -> JSON {
        offset += 1
        var members: [String: JSON] = [:]
        if take(UInt8(ascii: "}")) { return .object([:]) }
        repeat {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw failure("a member has no name") }
            let name = try string()
            guard take(UInt8(ascii: ":")) else { throw failure("a member has no value") }
            members[name] = try value(depth - 1)
        } while take(UInt8(ascii: ","))
        guard take(UInt8(ascii: "}")) else { throw failure("an object does not end") }
        return .object(members)
    }

    private mutating func word(_ word: StaticString, _ value: JSON) throws(JSONError) -> JSON {
        let expected = UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
        guard bytes[offset...].prefix(expected.count).elementsEqual(expected) else {
            throw failure("unknown word")
        }
        offset += expected.count
        return value
    }

    private mutating func number() throws(JSONError) -> JSON {
        let start = offset
        while let byte = next,
            (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || [UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E")]
                    .contains(byte)
        { offset += 1 }
        let text = String(decoding: bytes[start..<offset], as: UTF8.self)
        if let count = Int64(text) { return .integer(count) }
        guard let value = Double(text) else { throw failure("not a value") }
        return .number(value)
    }

    private mutating func string() throws(JSONError) -> String {
        offset += 1
        var text: [UInt8] = []
        while let byte = next {
            offset += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"): text += try escape()
            default: text.append(byte)
            }
        }
        throw failure("a string does not end")
    }

    private mutating func escape() throws(JSONError) -> [UInt8] {
        guard let byte = next else { throw failure("a string does not end") }
        offset += 1
        switch byte {
        case UInt8(ascii: "n"): return [10]
        case UInt8(ascii: "t"): return [9]
        case UInt8(ascii: "r"): return [13]
        case UInt8(ascii: "b"): return [8]
        case UInt8(ascii: "f"): return [12]
        case UInt8(ascii: "u"):
            var unit = try hex()
            if (0xD800..<0xDC00).contains(unit), bytes[offset...].starts(with: [0x5C, 0x75]) {
                offset += 2
                let low = try hex()
                guard (0xDC00..<0xE000).contains(low) else { throw failure("half a character") }
                unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
            }
            return Array(String(Unicode.Scalar(unit).map(Character.init) ?? "\u{FFFD}").utf8)
        default: return [byte]
        }
    }

    private mutating func hex() throws(JSONError) -> UInt32 {
        guard offset + 4 <= bytes.count,
            let unit = UInt32(String(decoding: bytes[offset..<offset + 4], as: UTF8.self), radix: 16)
        else { throw failure("not four hexadecimal digits") }
        offset += 4
        return unit
    }
}
