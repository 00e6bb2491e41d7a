/// A JSON document that is edited as text: what is not touched stays as somebody wrote it, order and spaces included. (RFC 8259)
struct JSONText: Sendable {
    /// What a value is, and where in the text it stands.
    struct Node: Sendable {
        enum Kind: Sendable {
            case object([Member])
            case string(String)
            /// An array, a number, or a word: nothing that is looked into.
            case other
        }
        var range: Range<Int>
        var kind: Kind

        var members: [Member]? { if case .object(let members) = kind { members } else { nil } }
        func member(_ key: String) -> Member? { members?.first { $0.key == key } }
    }

    /// One name of an object, with its value.
    struct Member: Sendable {
        var key: String
        /// Where the name begins, with its quote.
        var start: Int
        var value: Node
    }

    private(set) var bytes: [UInt8]
    private(set) var root: Node

    /// Reads it. Throws where it is no JSON, with the line.
    init(_ text: String) throws {
        try self.init(bytes: Array(text.utf8))
    }

    private init(bytes: [UInt8]) throws {
        var reader = Reader(bytes: bytes)
        root = try reader.document()
        self.bytes = bytes
    }

    var text: String { String(decoding: bytes, as: UTF8.self) }

    /// The value at the end of `path`; nil where there is none.
    func find(_ path: [String]) -> Node? {
        var node = root
        for key in path {
            guard let member = node.member(key) else { return nil }
            node = member.value
        }
        return node
    }

    /// Sets the value at `path` to that JSON, making the objects on the way. Throws where something on the way is no object.
    mutating func set(_ path: [String], to json: String) throws {
        var node = root
        for (depth, key) in path.enumerated() {
            guard let members = node.members else {
                throw TextError("\(path[..<depth].joined(separator: ".")) is no object")
            }
            if let member = members.first(where: { $0.key == key }) {
                node = member.value
                continue
            }
            var value = json
            for inner in path[(depth + 1)...].reversed() { value = "{\"\(inner)\": \(value)}" }
            return try insert("\"\(key)\": \(value)", into: node, members, depth: depth)
        }
        try replace(node.range, json)
    }

    private mutating func insert(_ text: String, into node: Node, _ members: [Member], depth: Int) throws {
        guard let last = members.last else {
            let indent = String(repeating: "    ", count: depth)
            return try replace(node.range, "{\n\(indent)    \(text)\n\(indent)}")
        }
        // As its neighbour stands: on a line of its own, or beside the others.
        var lineStart = last.start
        while lineStart > 0, bytes[lineStart - 1] == 0x20 || bytes[lineStart - 1] == 0x09 { lineStart -= 1 }
        let isAlone = lineStart > 0 && bytes[lineStart - 1] == 0x0a
        let indent = String(decoding: bytes[lineStart..<last.start], as: UTF8.self)
        let end = last.value.range.upperBound
        try replace(end..<end, isAlone ? ",\n\(indent)\(text)" : ", \(text)")
    }

    /// Takes the member at `path` out. Not being there is no error.
    mutating func remove(_ path: [String]) throws {
        guard let key = path.last, let object = find(Array(path.dropLast())), let members = object.members,
            let index = members.firstIndex(where: { $0.key == key })
        else { return }
        if members.count == 1 { return try replace(object.range, "{}") }
        let range =
            index == 0
            ? members[0].start..<members[1].start
            : members[index - 1].value.range.upperBound..<members[index].value.range.upperBound
        try replace(range, "")
    }

    private mutating func replace(_ range: Range<Int>, _ text: String) throws {
        var edited = bytes
        edited.replaceSubrange(range, with: Array(text.utf8))
        self = try JSONText(bytes: edited)
    }
}

extension JSONText {
    /// Walks through the bytes once.
    private struct Reader {
        var bytes: [UInt8]
        var at = 0
        private var depth = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        mutating func document() throws -> Node {
            let node = try value()
            skipSpace()
            if at < bytes.count { throw wrong("something follows its end") }
            return node
        }

        private func wrong(_ what: String) -> TextError {
            TextError("line \(1 + bytes[..<min(at, bytes.count)].count { $0 == 0x0a }): \(what)")
        }

        private mutating func skipSpace() {
            while at < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[at]) { at += 1 }
        }

        private mutating func expect(_ character: Unicode.Scalar) throws {
            skipSpace()
            guard at < bytes.count, bytes[at] == UInt8(ascii: character) else { throw wrong("“\(character)” is missing") }
            at += 1
        }

        private mutating func value() throws -> Node {
            skipSpace()
            guard at < bytes.count else { throw wrong("it ends too early") }
            depth += 1
            defer { depth -= 1 }
            if depth > 64 { throw wrong("it is nested too deeply") }
            let start = at
            switch bytes[at] {
            case UInt8(ascii: "{"):
                let members = try object()
                return Node(range: start..<at, kind: .object(members))
            case UInt8(ascii: "["):
                at += 1
                skipSpace()
                if at < bytes.count, bytes[at] == UInt8(ascii: "]") {
                    at += 1
                } else {
                    while true {
                        _ = try value()
                        skipSpace()
                        if at < bytes.count, bytes[at] == UInt8(ascii: ",") {
                            at += 1
                            continue
                        }
                        try expect("]")
                        break
                    }
                }
                return Node(range: start..<at, kind: .other)
            case UInt8(ascii: "\""):
                let text = try string()
                return Node(range: start..<at, kind: .string(text))
            default:
                while at < bytes.count, isOfWord(bytes[at]) { at += 1 }
                let word = String(decoding: bytes[start..<at], as: UTF8.self)
                guard
                    ["true", "false", "null"].contains(word) || (word.first != "+" && Double(word) != nil && !word.contains("n"))
                else { throw wrong("a value is missing, or is none") }
                return Node(range: start..<at, kind: .other)
            }
        }

        private func isOfWord(_ byte: UInt8) -> Bool {
            (48...57).contains(byte) || (97...122).contains(byte) || (65...90).contains(byte) || [43, 45, 46].contains(byte)
        }

        private mutating func object() throws -> [Member] {
            var members: [Member] = []
            try expect("{")
            skipSpace()
            if at < bytes.count, bytes[at] == UInt8(ascii: "}") {
                at += 1
                return []
            }
            while true {
                skipSpace()
                let start = at
                guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else { throw wrong("a name in quotes is missing") }
                let key = try string()
                if members.contains(where: { $0.key == key }) { throw wrong("\"\(key)\" is there twice") }
                try expect(":")
                members.append(Member(key: key, start: start, value: try value()))
                skipSpace()
                if at < bytes.count, bytes[at] == UInt8(ascii: ",") {
                    at += 1
                    continue
                }
                try expect("}")
                return members
            }
        }

        private mutating func string() throws -> String {
            let start = at
            at += 1
            while at < bytes.count, bytes[at] != UInt8(ascii: "\"") {
                if bytes[at] < 0x20 { throw wrong("a quote is missing") }
                at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1
            }
            guard at < bytes.count else { throw wrong("a quote is missing") }
            at += 1
            return Self.unescaped(bytes[(start + 1)..<(at - 1)])
        }

        /// Without what JSON escapes; `\u` stays, because no name that is looked for needs it.
        private static func unescaped(_ bytes: ArraySlice<UInt8>) -> String {
            var out: [UInt8] = []
            var isEscaped = false
            for byte in bytes {
                if !isEscaped, byte == UInt8(ascii: "\\") {
                    isEscaped = true
                    continue
                }
                if isEscaped, ![UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/")].contains(byte) {
                    out.append(UInt8(ascii: "\\"))
                }
                isEscaped = false
                out.append(byte)
            }
            return String(decoding: out, as: UTF8.self)
        }
    }

    /// `text` as a JSON string.
    static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            default:
                if scalar.value < 32 {
                    let digits = String(scalar.value, radix: 16)
                    out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out + "\""
    }
}
