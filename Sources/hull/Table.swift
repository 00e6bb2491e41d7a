import ArgumentParser
import FoundationEssentials
import Glibc
import Sandboxes

/// Rows for people (aligned columns), for scripts (`--format json`, one object a line), or in a shape of the user's
/// (`--format '{{.Names}}'`).
struct Table {
    /// A column: its key in JSON and templates, and its title.
    struct Column {
        var key: String
        var title: String
    }

    var columns: [Column]
    /// Values by column key; keys that no column has appear in JSON and templates only.
    var rows: [[String: String]]

    /// Prints it.
    func print(format: String?, quiet: Bool = false, quietKey: String = "ID") throws {
        if quiet {
            for row in rows { Swift.print(row[quietKey] ?? "") }
            return
        }
        switch format {
        case nil, "table": printAligned()
        case "json", "{{json .}}":
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            for row in rows { Swift.print(String(decoding: try encoder.encode(row), as: UTF8.self)) }
        case let template?:
            let parts = try Template(
                template.hasPrefix("table ") ? String(template.dropFirst(6)) : template)
            for row in rows { Swift.print(try parts.render(row)) }
        }
    }

    private func printAligned() {
        let lines = [columns.map(\.title)] + rows.map { row in columns.map { row[$0.key] ?? "" } }
        let widths = columns.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        for line in lines {
            var text = ""
            for (index, cell) in line.enumerated() {
                text += cell
                if index < line.count - 1 {
                    text += String(repeating: " ", count: widths[index] - cell.count + 3)
                }
            }
            Swift.print(text)
        }
    }
}

/// The part of Go's templates that people use with `--format`: text, `{{.Key}}`, `\t` and `\n`.
struct Template {
    private enum Part {
        case text(String)
        case key(String)
    }
    private var parts: [Part] = []

    init(_ text: String) throws {
        var rest = Substring(text.replacing("\\t", with: "\t").replacing("\\n", with: "\n"))
        while let open = rest.firstRange(of: "{{") {
            parts.append(.text(String(rest[..<open.lowerBound])))
            guard let close = rest[open.upperBound...].firstRange(of: "}}") else {
                throw ValidationError("the format has {{ without }}: \(text)")
            }
            let key = rest[open.upperBound..<close.lowerBound].filter { $0 != " " }
            guard key.hasPrefix("."), key.count > 1 else {
                throw ValidationError(
                    "the format \(text) uses more than {{.Key}}, which is all that is understood")
            }
            parts.append(.key(String(key.dropFirst())))
            rest = rest[close.upperBound...]
        }
        parts.append(.text(String(rest)))
    }

    func render(_ row: [String: String]) throws -> String {
        try parts.map { part in
            switch part {
            case .text(let text): return text
            case .key(let key):
                guard let value = row[key] else {
                    throw ValidationError(
                        "the format asks for .\(key); known are \(row.keys.sorted().joined(separator: ", "))")
                }
                return value
            }
        }.joined()
    }
}

/// Times as tables show them.
enum Ago {
    /// `3 minutes ago`, as Docker rounds it.
    static func text(_ nanoseconds: Int64, now: Int64 = Timestamp.now.nanoseconds) -> String {
        "\(duration(now - nanoseconds)) ago"
    }

    /// `About a minute`, `3 hours`, …
    static func duration(_ nanoseconds: Int64) -> String {
        let seconds = max(0, nanoseconds / 1_000_000_000)
        switch seconds {
        case 0: return "Less than a second"
        case 1: return "1 second"
        case ..<60: return "\(seconds) seconds"
        case ..<120: return "About a minute"
        case ..<3600: return "\(seconds / 60) minutes"
        case ..<7200: return "About an hour"
        case ..<(48 * 3600): return "\(seconds / 3600) hours"
        case ..<(14 * 86400): return "\(seconds / 86400) days"
        case ..<(60 * 86400): return "\(seconds / (7 * 86400)) weeks"
        case ..<(730 * 86400): return "\(seconds / (30 * 86400)) months"
        default: return "\(seconds / (365 * 86400)) years"
        }
    }
}
