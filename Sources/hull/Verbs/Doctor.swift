import ArgumentParser
import Sandboxes

struct Doctor: Verb {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Say what this host can do, and how to mend what it cannot.",
        discussion: "Ends with 1 when something is missing without which no container runs.")

    @Option(name: .long, help: "json.") var format: String?

    func perform() async throws -> Int32 {
        let findings = await Examination(roots: Globals.roots, drivers: Drivers.all, standard: Drivers.standard).findings()
        if format == "json" {
            try Table(columns: [], rows: findings.map { ["Level": $0.level.rawValue, "Subject": $0.subject, "Text": $0.text] })
                .print(format: "json")
        } else {
            for finding in findings { print("\(finding.level.mark) \(finding.subject): \(finding.text)") }
        }
        return findings.contains { $0.level == .missing } ? 1 : 0
    }
}

extension Finding.Level {
    fileprivate var mark: String {
        switch self {
        case .good: "[ok]  "
        case .remark: "[note]"
        case .missing: "[FAIL]"
        }
    }
}
