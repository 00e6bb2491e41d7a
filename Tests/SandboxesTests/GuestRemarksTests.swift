import Testing

@testable import Sandboxes

@Suite struct GuestRemarksTests {
    @Test func plainAndBounded() {
        var remarks = GuestRemarks()
        #expect(remarks.take("no module \u{1B}[2J für\n\u{202E}x") == "guest: no module ?[2J für??x")
        var lines: [String] = []
        for _ in 0..<1000 { if let line = remarks.take(String(repeating: "a", count: 4096)) { lines.append(line) } }
        #expect(lines.count == 16 && lines.last == "guest: (what it said after this was left out)")
    }
}
