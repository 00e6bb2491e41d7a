import Glibc
import LinuxSystem

/// What came of the rows of one engine, a column a runtime.
struct Scoreboard: Sendable {
    enum Mark: Sendable {
        case passed(Duration)
        case failed(String)
        /// The row asks for what only a machine has.
        case notAsked
    }

    let kind: Row.Kind
    let runtimes: [Runtime]
    private(set) var marks: [String: [String: Mark]] = [:]

    init(_ kind: Row.Kind, _ runtimes: [Runtime]) {
        self.kind = kind
        self.runtimes = runtimes
    }

    mutating func note(_ row: Row, _ runtime: Runtime, _ mark: Mark) { marks[row.name, default: [:]][runtime.name] = mark }

    func failure(_ row: Row, _ runtime: Runtime) -> String? {
        if case .failed(let why)? = marks[row.name]?[runtime.name] { why } else { nil }
    }

    /// How many rows a runtime passed, and of how many.
    func score(_ runtime: Runtime) -> (passed: Int, all: Int) {
        let all = marks.values.compactMap { $0[runtime.name] }
        let passed = all.count { if case .passed = $0 { true } else { false } }
        return (passed, all.count { if case .notAsked = $0 { false } else { true } })
    }

    /// The columns beside each other.
    func text(_ rows: [Row]) -> String {
        var text = "\n" + Self.pad(kind.rawValue, 64) + runtimes.map { Self.pad($0.name, 12) }.joined() + "\n"
        for row in rows {
            text += Self.pad("\(row.noun.rawValue): \(row.name)", 64)
            text += runtimes.map { Self.pad(word(marks[row.name]?[$0.name]), 12) }.joined() + "\n"
        }
        let scores = runtimes.map { score($0) }
        text += Self.pad("passed", 64) + scores.map { Self.pad("\($0.passed) of \($0.all)", 12) }.joined() + "\n"
        return text
    }

    private func word(_ mark: Mark?) -> String {
        switch mark {
        case .passed(let time):
            let hundredths = Int(time / .milliseconds(10))
            return "ok \(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100) s"
        case .failed: return "FAILED"
        case .notAsked, nil: return "-"
        }
    }

    private static func pad(_ text: String, _ width: Int) -> String {
        text.count < width ? text + String(repeating: " ", count: width - text.count) : text + " "
    }
}
