/// The part of TOML that Hull's configuration needs, read strictly: `[table]`, `key = value` with bare keys, and values that are strings on one
/// line, whole numbers, `true`, `false`, and lists of strings over any number of lines. What is neither this nor a comment is an error with
/// its line: a setting that protects the host must not be overread. (A whole TOML library would be C++, in a program that starts in milliseconds.)
struct PlainTOML: Hashable, Sendable {
    enum Value: Hashable, Sendable {
        case text(String)
        case number(Int)
        case truth(Bool)
        case list([String])
    }

    /// By table, then by key.
    private(set) var tables: [String: [String: Value]] = [:]

    /// What could not be read, and where.
    struct Problem: Error, CustomStringConvertible, Hashable {
        var line: Int
        var reason: String
        var description: String { "line \(line): \(reason)" }
    }

    init(_ text: String) throws(Problem) {
        var reader = Reader(text)
        var table = ""
        while reader.skipToContent() {
            if reader.take("[") {
                table = try reader.key()
                guard reader.take("]") else { throw reader.problem("a table's name ends with ]") }
                guard tables[table] == nil else { throw reader.problem("the table [\(table)] is there already") }
                tables[table] = [:]
            } else {
                let key = try reader.key()
                guard reader.take("=") else { throw reader.problem("after \(key) comes = and a value") }
                guard tables[table, default: [:]][key] == nil else { throw reader.problem("\(key) is set already") }
                tables[table, default: [:]][key] = try reader.value()
            }
            try reader.endLine()
        }
    }

    private struct Reader {
        private var rest: Substring.UnicodeScalarView
        private var line = 1

        init(_ text: String) { rest = Substring(text).unicodeScalars }

        func problem(_ reason: String) -> Problem { Problem(line: line, reason: reason) }

        private mutating func skipBlanks() {
            while let next = rest.first, next == " " || next == "\t" || next == "\r" { rest.removeFirst() }
        }

        private mutating func skipComment() {
            guard rest.first == "#" else { return }
            while let next = rest.first, next != "\n" { rest.removeFirst() }
        }

        /// To what is no blank, comment or end of a line; whether there is such a thing.
        mutating func skipToContent() -> Bool {
            while true {
                skipBlanks()
                skipComment()
                guard let next = rest.first else { return false }
                guard next == "\n" else { return true }
                rest.removeFirst()
                line += 1
            }
        }

        mutating func take(_ mark: Unicode.Scalar) -> Bool {
            skipBlanks()
            guard rest.first == mark else { return false }
            rest.removeFirst()
            skipBlanks()
            return true
        }

        mutating func endLine() throws(Problem) {
            skipBlanks()
            skipComment()
            if let next = rest.first, next != "\n" { throw problem("nothing may follow the value but a comment") }
        }

        private static func isBare(_ scalar: Unicode.Scalar) -> Bool {
            ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar) || scalar == "-"
                || scalar == "_"
        }

        private mutating func word() -> String {
            var word = String.UnicodeScalarView()
            while let next = rest.first, Self.isBare(next) { word.append(rest.removeFirst()) }
            return String(word)
        }

        mutating func key() throws(Problem) -> String {
            let name = word()
            guard !name.isEmpty else { throw problem("a name was expected: letters, digits, - and _") }
            return name
        }

        mutating func value() throws(Problem) -> Value {
            if rest.first == "\"" || rest.first == "'" { return .text(try text()) }
            if take("[") {
                var all: [String] = []
                while true {
                    guard skipToContent() else { throw problem("the list has no end") }
                    if take("]") { return .list(all) }
                    all.append(try text())
                    guard skipToContent() else { throw problem("the list has no end") }
                    if take(",") { continue }
                    guard take("]") else { throw problem("a comma or ] was expected in the list") }
                    return .list(all)
                }
            }
            let word = word()
            if word == "true" || word == "false" { return .truth(word == "true") }
            guard let number = Int(word.split(separator: "_", omittingEmptySubsequences: false).joined()) else {
                throw problem("a value is a string in quotes, a whole number, true, false, or a list of strings")
            }
            return .number(number)
        }

        private mutating func text() throws(Problem) -> String {
            guard let quote = rest.first, quote == "\"" || quote == "'" else { throw problem("a string in quotes was expected") }
            rest.removeFirst()
            var text = String.UnicodeScalarView()
            while let next = rest.popFirst() {
                if next == quote { return String(text) }
                if next == "\n" { break }
                if next != "\\" || quote == "'" {
                    text.append(next)
                    continue
                }
                switch rest.popFirst() {
                case "\"": text.append("\"")
                case "\\": text.append("\\")
                case "n": text.append("\n")
                case "t": text.append("\t")
                default: throw problem("of escapes, \\\" \\\\ \\n and \\t are known")
                }
            }
            throw problem("the string has no end on its line")
        }
    }
}
