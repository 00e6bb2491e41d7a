import FoundationEssentials
import Glibc
import LinuxSystem
import Sandboxes

/// `list`: the containers of this root.
enum ListVerb {
    static func perform(_ words: some Sequence<String>, _ globals: Globals) throws -> Int32 {
        let arguments = try Arguments(words, valued: ["format"], plain: ["quiet"], short: ["q": "quiet", "f": "format"])
        let all = try globals.engines.list().map(Listed.init).sorted { $0.id < $1.id }
        if arguments.has("quiet") {
            for one in all { print(one.id) }
            return 0
        }
        switch arguments["format"] ?? "table" {
        case "json":
            let encoder = JSONEncoder()
            encoder.outputFormatting = .withoutEscapingSlashes
            print(all.isEmpty ? "null" : String(decoding: try encoder.encode(all), as: UTF8.self))
        case "table":
            let rows =
                [["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]]
                + all.map { [$0.id, "\($0.pid)", $0.status, $0.bundle, $0.created, "root"] }
            printTable(rows)
        default: throw SandboxError("invalid format option", exitCode: 1)
        }
        return 0
    }
}

/// Prints rows in columns, as runc does (at least 12 wide, 3 apart).
func printTable(_ rows: [[String]]) {
    guard let first = rows.first else { return }
    let widths = first.indices.map { column in max(9, rows.map { $0[column].count }.max() ?? 0) }
    for row in rows {
        let cells = row.enumerated().map { index, text in
            index == row.count - 1 ? text : text + String(repeating: " ", count: widths[index] - text.count + 3)
        }
        print(cells.joined())
    }
}
