import ArgumentParser
import Sandboxes

struct Top: Verb {
    static let configuration = CommandConfiguration(commandName: "top", abstract: "Show the processes in a container.")

    @Argument(help: "Name or id.") var container: String

    func perform() async throws -> Int32 {
        let client = try MonitorClient(to: try await openStore().find(container))
        try await client.ask(.top)
        switch try await client.answer() {
        case .processes(let titles, let rows):
            let table = Table(
                columns: titles.map { .init(key: $0, title: $0) },
                rows: rows.map { Dictionary(zip(titles, $0)) { first, _ in first } })
            try table.print(format: nil)
            return 0
        case .failed(let sentence, let code): throw SandboxError(sentence, exitCode: code)
        case .done, .exited, .outputClosed, .document:
            throw SandboxError("the monitor gave an answer that does not fit the question")
        }
    }
}
