extension TOMLText {
    /// The tables of a document.
    static func read(_ lines: [String]) throws -> [Table] {
        var tables = [Table(path: [], lines: 0..<lines.count)]
        var number = 0
        while number < lines.count {
            var reader = LineReader(lines[number], number: number + 1)
            reader.skipSpace()
            if reader.isAtEnd {
                number += 1
            } else if reader.take("[") {
                let isElement = reader.take("[")
                let path = try reader.names()
                guard reader.take("]"), !isElement || reader.take("]") else { throw reader.wrong("“]” is missing") }
                try reader.end()
                if !isElement, tables.dropFirst().contains(where: { $0.path == path }) {
                    throw reader.wrong("[\(path.joined(separator: "."))] is there twice")
                }
                tables[tables.count - 1].lines = tables[tables.count - 1].lines.lowerBound..<number
                tables.append(Table(path: path, lines: number..<lines.count))
                number += 1
            } else {
                let path = try reader.names()
                guard reader.take("=") else { throw reader.wrong("“=” is missing") }
                let (value, after) = try Self.value(lines, number, reader)
                if tables[tables.count - 1].keys.contains(where: { $0.path == path }) {
                    throw reader.wrong("\(path.joined(separator: ".")) is there twice")
                }
                tables[tables.count - 1].keys.append(Key(path: path, value: value))
                number = after
            }
        }
        return tables
    }

    /// A value that begins in that line; where it ends, in lines.
    private static func value(_ lines: [String], _ number: Int, _ reader: LineReader) throws -> (String, Int) {
        var text = String(String.UnicodeScalarView(reader.rest))
        var last = number
        while true {
            var scanner = ValueScanner(text)
            switch scanner.scan() {
            case .whole:
                let value = scanner.value
                if value.isEmpty { throw reader.wrong("a value is missing") }
                return (value, last + 1)
            case .unfinished:
                last += 1
                guard last < lines.count else { throw reader.wrong("the value that begins here does not end") }
                text += "\n\(lines[last])"
            case .wrong: throw reader.wrong("what follows “=” is no value")
            }
        }
    }

    /// One line of names.
    struct LineReader {
        private(set) var rest: ArraySlice<Unicode.Scalar>
        private let number: Int

        init(_ line: String, number: Int) {
            rest = Array(line.unicodeScalars)[...]
            self.number = number
        }

        func wrong(_ what: String) -> TextError { TextError("line \(number): \(what)") }

        mutating func skipSpace() { rest = rest.drop { $0 == " " || $0 == "\t" || $0 == "\r" } }

        var isAtEnd: Bool { rest.isEmpty || rest.first == "#" }

        mutating func take(_ character: Unicode.Scalar) -> Bool {
            guard rest.first == character else { return false }
            rest = rest.dropFirst()
            return true
        }

        mutating func end() throws {
            skipSpace()
            if !isAtEnd { throw wrong("something follows where the line should end") }
        }

        /// `a.b."c d"`.
        mutating func names() throws -> [String] {
            var all: [String] = []
            repeat {
                skipSpace()
                if let quote = rest.first, quote == "\"" || quote == "'" {
                    rest = rest.dropFirst()
                    guard let end = rest.firstIndex(of: quote), !rest[..<end].contains("\\") else {
                        throw wrong("a name in quotes does not end, or is one that Hull does not read")
                    }
                    all.append(String(String.UnicodeScalarView(rest[..<end])))
                    rest = rest[(end + 1)...]
                } else {
                    let name = rest.prefix {
                        $0.isASCII && ($0.properties.isAlphabetic || (48...57).contains($0.value) || $0 == "-" || $0 == "_")
                    }
                    guard !name.isEmpty else { throw wrong("a name is missing") }
                    all.append(String(String.UnicodeScalarView(name)))
                    rest = rest.dropFirst(name.count)
                }
                skipSpace()
            } while take(".")
            return all
        }
    }

    /// Finds the end of a value: strings of all four kinds, arrays and inline tables over several lines, and what ends with the line.
    private struct ValueScanner {
        enum Outcome { case whole, unfinished, wrong }
        private let text: [Unicode.Scalar]
        private var at = 0
        private var depth = 0
        private(set) var value = ""

        init(_ text: String) { self.text = Array(text.unicodeScalars) }

        private func starts(_ word: String) -> Bool { text[at...].starts(with: word.unicodeScalars) }

        mutating func scan() -> Outcome {
            var kept: [Unicode.Scalar] = []
            while at < text.count {
                let character = text[at]
                switch character {
                case "#":
                    while at < text.count, text[at] != "\n" { at += 1 }
                    continue
                case "\"", "'":
                    let start = at
                    let isLong = starts(String(repeating: String(character), count: 3))
                    at += isLong ? 3 : 1
                    guard skipString(character, isLong) else { return isLong && at >= text.count ? .unfinished : .wrong }
                    kept += text[start..<at]
                    continue
                case "[", "{": depth += 1
                case "]", "}":
                    depth -= 1
                    if depth < 0 { return .wrong }
                case "\n": if depth == 0 { return .wrong }
                case "=": if depth == 0 { return .wrong }
                default: break
                }
                kept.append(character)
                at += 1
            }
            if depth > 0 { return .unfinished }
            func isSpace(_ character: Unicode.Scalar) -> Bool { character == " " || character == "\t" || character == "\r" }
            while let last = kept.last, isSpace(last) { kept.removeLast() }
            let trimmed = kept.drop(while: isSpace)
            value = String(String.UnicodeScalarView(trimmed))
            // A value without quotes or brackets is one word; a date and its time may be two.
            let isBare = trimmed.first.map { !["\"", "'", "[", "{"].contains($0) } ?? true
            return isBare && trimmed.split(whereSeparator: isSpace).count > 2 ? .wrong : .whole
        }

        /// Steps behind the closing quote.
        private mutating func skipString(_ quote: Unicode.Scalar, _ isLong: Bool) -> Bool {
            while at < text.count {
                if text[at] == "\\", quote == "\"" {
                    at += 2
                    continue
                }
                if !isLong, text[at] == "\n" { return false }
                if text[at] == quote {
                    if !isLong {
                        at += 1
                        return true
                    }
                    if starts(String(repeating: String(quote), count: 3)) {
                        at += 3
                        while at < text.count, text[at] == quote { at += 1 }
                        return true
                    }
                }
                at += 1
            }
            return false
        }
    }

    /// The strings of a written array; nil where it holds anything else.
    static func strings(of array: String) -> [String]? {
        guard array.hasPrefix("["), array.hasSuffix("]") else { return nil }
        var all: [String] = []
        for piece in array.dropFirst().dropLast().split(separator: ",") {
            let item = piece.drop { $0 == " " || $0 == "\n" || $0 == "\t" }
            let trimmed = String(String(item.reversed().drop { $0 == " " || $0 == "\n" || $0 == "\t" }).reversed())
            if trimmed.isEmpty { continue }
            guard let quote = trimmed.first, quote == "\"" || quote == "'", trimmed.count >= 2, trimmed.last == quote else {
                return nil
            }
            all.append(String(trimmed.dropFirst().dropLast()))
        }
        return all
    }
}
