/// A TOML document that is edited by whole tables: what is not touched stays as somebody wrote it. It is read as far as that needs:
/// headers of tables, names, and where a value ends. (toml.io, v1.0.0)
struct TOMLText: Sendable {
    /// A table, or an element of an array of tables.
    struct Table: Sendable {
        var path: [String]
        /// From the line of its header to the line before the next one.
        var lines: Range<Int>
        var keys: [Key] = []
    }

    /// A name in a table, with its value as it is written.
    struct Key: Sendable {
        var path: [String]
        var value: String
    }

    private(set) var lines: [String]
    /// In their order; the first has no name and holds what stands before every header.
    private(set) var tables: [Table]

    /// Reads it. Throws where it is no TOML, with the line.
    init(_ text: String) throws {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        self.lines = lines
        tables = try Self.read(lines)
    }

    var text: String { lines.isEmpty ? "" : lines.joined(separator: "\n") + "\n" }

    /// The value of a name, by its whole path, as it is written; nil where there is none.
    func value(_ path: [String]) -> String? {
        for table in tables {
            if let key = table.keys.first(where: { table.path + $0.path == path }) { return key.value }
        }
        return nil
    }

    /// Whether a table of that path has a header.
    func hasTable(_ path: [String]) -> Bool { tables.contains { $0.path == path } }

    /// Whether something at `path` or above it is a value (an inline table, say), so that no header may name it.
    func isValue(_ path: [String]) -> Bool {
        tables.contains { table in
            table.keys.contains { key in
                let whole = table.path + key.path
                return whole.count <= path.count && Array(path.prefix(whole.count)) == whole
            }
        }
    }

    /// Takes out the tables at `path` and below, with the remark that stands right above the first.
    mutating func removeTables(_ path: [String]) throws {
        var gone = Set<Int>()
        for (number, table) in tables.enumerated() where number > 0 && Array(table.path.prefix(path.count)) == path {
            // What stands above the next header, as a remark of its, is the next table's.
            var end = table.lines.upperBound
            let hasSuccessor = end < lines.count
            if hasSuccessor {
                while end > table.lines.lowerBound + 1, lines[end - 1].isRemark { end -= 1 }
            }
            gone.formUnion(table.lines.lowerBound..<end)
            var start = table.lines.lowerBound
            if start > 0, lines[start - 1] == Self.remark {
                start -= 1
                gone.insert(start)
            }
        }
        lines = lines.enumerated().filter { !gone.contains($0.offset) }.map(\.element)
        tables = try Self.read(lines)
    }

    /// What stands above a table of ours.
    static let remark = "# Written by `hull install`; `hull uninstall` takes it away."

    /// Adds lines at the end, after an empty one.
    mutating func append(_ more: [String]) throws {
        if let last = lines.last, !last.isBlank { lines.append("") }
        lines += more
        tables = try Self.read(lines)
    }

    /// A name as a header has it.
    static func quoted(_ name: String) -> String {
        let isBare =
            !name.isEmpty
            && name.utf8.allSatisfy {
                (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45 || $0 == 95
            }
        return isBare ? name : string(name)
    }

    /// `text` as a basic string.
    static func string(_ text: String) -> String { JSONText.quoted(text) }
}

extension String {
    var isBlank: Bool { allSatisfy { $0 == " " || $0 == "\t" || $0 == "\r" } }
    /// A line that only says something to people.
    fileprivate var isRemark: Bool { drop { $0 == " " || $0 == "\t" }.first == "#" }
}
