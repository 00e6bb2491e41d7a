import Foundation

/// A Swift file of this repository, read as text.
struct SourceFile {
    /// Its path in the repository.
    let path: String
    let lines: [String]

    var name: String { path.split(separator: "/").last.map(String.init) ?? path }

    /// The modules that the file imports, whatever stands before the word.
    var imports: [String] {
        lines.compactMap { line in
            let words = line.split(separator: " ")
            guard let place = words.firstIndex(of: "import"), place + 1 < words.count,
                words[..<place].allSatisfy({ $0.hasPrefix("@") || SourceFile.importAccess.contains(String($0)) })
            else { return nil }
            let kind = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
            let named = words[(place + 1)...].first { !kind.contains(String($0)) } ?? words[place + 1]
            return named.split(separator: ".").first.map(String.init)
        }
    }

    /// The places, as `path:line`, whose code (comments and text between quotes left out) holds the words.
    func places(of text: String) -> [String] {
        lines.indices.filter { SourceFile.code(of: lines[$0]).contains(text) }.map { "\(path):\($0 + 1)" }
    }

    /// Whether a comment stands on the line or on one of the two before it.
    func isExplained(at line: Int) -> Bool {
        lines[max(0, line - 2)...line].contains { $0.contains("//") }
    }

    private static let importAccess: Set<String> = ["public", "package", "internal", "fileprivate", "private"]

    /// The line without its comment and without what stands between quotes.
    static func code(of line: String) -> String {
        var code = ""
        var quoted = false
        var previous: Character = " "
        for character in line {
            if character == "\"", previous != "\\" { quoted.toggle() }
            if !quoted {
                if character == "/", previous == "/" { return String(code.dropLast()) }
                code.append(character)
            }
            previous = character
        }
        return code
    }
}

/// The sources of the repository, by folder.
struct SourceTree {
    let root: URL

    init(file: String = #filePath) {
        root = URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    }

    /// The modules of the host: the folders of `Sources`.
    func modules() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: root.appendingPathComponent("Sources").path).sorted()
    }

    /// The Swift files under a folder of the repository; none where there is no such folder.
    func files(under folder: String) throws -> [SourceFile] {
        let top = root.appendingPathComponent(folder)
        guard let paths = FileManager.default.enumerator(atPath: top.path) else { return [] }
        return try paths.compactMap { $0 as? String }.filter { $0.hasSuffix(".swift") && !$0.contains(".build") }.sorted().map {
            let text = try String(contentsOf: top.appendingPathComponent($0), encoding: .utf8)
            return SourceFile(path: "\(folder)/\($0)", lines: text.components(separatedBy: "\n"))
        }
    }
}
