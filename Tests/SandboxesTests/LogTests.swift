import Glibc
import LinuxSystem
import Testing

@testable import Sandboxes

@Suite struct LogTests {
    @Test func timesGoBothWays() {
        for text in ["2026-11-21T01:02:03.000000004Z", "1970-01-01T00:00:00.000000000Z", "2000-02-29T23:59:59.999999999Z"] {
            #expect(Timestamp(rfc3339: text)?.rfc3339 == text)
        }
        #expect(Timestamp(rfc3339: "2026-11-21T01:02:03+01:00") == Timestamp(rfc3339: "2026-11-21T00:02:03Z"))
        #expect(Timestamp(rfc3339: "2026-11-21T01:02:03.5Z")?.nanoseconds.isMultiple(of: 500_000_000) == true)
        for text in ["", "2026", "2026-11-21", "2026-11-21T01:02:03", "2026-11-21T01:02:03.Z", "x"] {
            #expect(Timestamp(rfc3339: text) == nil)
        }
    }

    private func withLog(_ body: (String) throws -> Void) throws {
        let folder = "/tmp/hull-log-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try makeDirectories(folder)
        defer { #expect(throws: Never.self) { try removeTree(folder) } }
        try body("\(folder)/log")
    }

    @Test func everyByteComesBack() throws {
        try withLog { path in
            var log = try ContainerLog(path)
            let pieces: [[UInt8]] = [Array("a\nb".utf8), Array("c\n\n".utf8), [0, 255, 10, 13, 32], Array("end".utf8)]
            for piece in pieces { try log.append(piece, from: .stdout, at: 1) }
            try log.append(Array("oops\n".utf8), from: .stderr, at: 2)
            let entries = try readFile(path).split(separator: 10).compactMap { LogEntry($0) }
            #expect(entries.filter { $0.stream == .stdout }.flatMap(\.text) == pieces.flatMap { $0 })
            #expect(entries.filter { $0.stream == .stderr }.flatMap(\.text) == Array("oops\n".utf8))
            #expect(entries.last?.time == "1970-01-01T00:00:00.000000002Z")
        }
    }

    @Test func tailCountsWholeLines() throws {
        let entries = ["P a", "F b", "F c", "P d"].map { LogEntry(Array("1970-01-01T00:00:00Z stdout \($0)".utf8))! }
        func texts(_ count: Int) -> [String] {
            LogReader.last(count, of: entries).map { String(decoding: $0.text, as: UTF8.self) }
        }
        #expect(texts(0) == [])
        #expect(texts(1) == ["d"])
        #expect(texts(2) == ["c\n", "d"])
        #expect(texts(3) == ["a", "b\n", "c\n", "d"])
        #expect(texts(9) == ["a", "b\n", "c\n", "d"])
    }

    @Test func whatIsNoEntryIsNone() {
        for text in ["", "x", "time stdout", "time other F text", "time stdout F"] { #expect(LogEntry(Array(text.utf8)) == nil) }
    }
}
