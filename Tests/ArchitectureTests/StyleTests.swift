import Foundation
import Testing

/// The rules of the house that a program can check.
@Suite struct StyleTests {
    private func sources() throws -> [SourceFile] {
        let tree = SourceTree()
        return try tree.files(under: "Sources") + tree.files(under: "guest/Sources")
    }

    @Test("No file is longer than 500 lines")
    func filesAreShort() throws {
        let long = try (sources() + SourceTree().files(under: "Tests")).filter { $0.lines.count > 501 }
        #expect(long.isEmpty, "\(long.map { "\($0.path): \($0.lines.count)" })")
    }

    @Test("No file is called after nothing in particular")
    func namesSaySomething() throws {
        let empty = ["Utils", "Util", "Helpers", "Helper", "Manager", "Common"]
        let wrong = try (sources() + SourceTree().files(under: "Tests")).flatMap { file in
            file.path.split(whereSeparator: { "/.+".contains($0) }).filter { part in empty.contains { part.hasSuffix($0) } }
                .map { _ in file.path }
        }
        #expect(wrong.isEmpty, "\(wrong)")
    }

    @Test("No type is called after nothing in particular")
    func typesSaySomething() throws {
        let kinds = ["struct ", "class ", "enum ", "actor ", "protocol "]
        let endings = ["Utils", "Helper", "Helpers", "Manager"]
        var wrong: [String] = []
        for file in try sources() {
            for (index, line) in file.lines.enumerated() {
                let code = SourceFile.code(of: line)
                for kind in kinds {
                    guard let range = code.range(of: kind) else { continue }
                    let name = code[range.upperBound...].prefix { $0.isLetter || $0.isNumber }
                    if endings.contains(where: { name.hasSuffix($0) }) { wrong.append("\(file.path):\(index + 1): \(name)") }
                }
            }
        }
        #expect(wrong.isEmpty, "\(wrong.joined(separator: "\n"))")
    }

    @Test("Every request of the agent's protocol is fuzzed")
    func requestsAreFuzzed() throws {
        let sources = try SourceTree().files(under: "Sources/AgentProtocol")
        let kinds = try #require(sources.first { $0.path.hasSuffix("MessageKinds.swift") })
        let requests = kinds.lines.prefix { !$0.contains("enum EventKind") }.compactMap { line -> String? in
            let words = line.split(separator: " ")
            return words.first == "case" && words.count == 4 ? String(words[1]) : nil
        }
        #expect(requests.count > 15)
        let fuzzer = try #require(SourceTree().files(under: "fuzz/Sources").first { $0.path.hasSuffix("FuzzGuest.swift") })
        let text = fuzzer.lines.joined(separator: "\n")
        #expect(requests.filter { !text.contains(".\($0)") } == [])
    }

    @Test("Nothing claims to be Sendable unchecked, and no task is detached")
    func concurrencyIsStructured() throws {
        let wrong = try sources().flatMap { $0.places(of: "@unchecked Sendable") + $0.places(of: "Task.detached") }
        #expect(wrong.isEmpty, "\(wrong.joined(separator: "\n"))")
    }

    // The parser asks the Swift runtime for the names of types otherwise, which costs every start of the program 2 ms.
    @Test("Every command says its name")
    func commandsSayTheirNames() throws {
        var (named, wrong) = (0, [String]())
        for file in try SourceTree().files(under: "Sources/hull") {
            for (index, line) in file.lines.enumerated() where line.contains("CommandConfiguration(") {
                let text = line + (index + 1 < file.lines.count ? file.lines[index + 1] : "")
                if text.contains("commandName:") { named += 1 } else { wrong.append("\(file.path):\(index + 1)") }
            }
        }
        #expect(wrong.isEmpty, "\(wrong.joined(separator: "\n"))")
        #expect(named > 50)
    }

    @Test("An error that is dropped says why")
    func droppedErrorsAreExplained() throws {
        var wrong: [String] = []
        for file in try sources() {
            for (index, line) in file.lines.enumerated()
            where SourceFile.code(of: line).contains(/\btry\?/) && !file.isExplained(at: index) {
                wrong.append("\(file.path):\(index + 1)")
            }
        }
        #expect(wrong.isEmpty, "`try?` without a comment on its line or the two before:\n\(wrong.joined(separator: "\n"))")
    }
}

/// The reader of sources is itself read.
@Suite struct SourceFileTests {
    @Test func theSourcesAreFound() throws {
        let tree = SourceTree()
        #expect(try tree.modules().count > 10)
        for folder in ["Sources/hull", "Sources/LinuxSystem", "Tests/ArchitectureTests"] {
            #expect(try !tree.files(under: folder).isEmpty, "\(folder)")
        }
    }

    @Test func importsAreFoundWhateverStandsBeforeThem() {
        let file = SourceFile(
            path: "A.swift",
            lines: [
                "import A", "public import B", "@testable import C", "internal import struct D.E", "// import F",
                "let text = \"import G\"",
            ])
        #expect(file.imports == ["A", "B", "C", "D"])
    }

    @Test func codeIsWithoutCommentsAndText() {
        #expect(SourceFile.code(of: "let a = 1 // try? it") == "let a = 1 ")
        #expect(!SourceFile.code(of: #"say("try? \"it\" ")"#).contains("try?"))
    }
}
