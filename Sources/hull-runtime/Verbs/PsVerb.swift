import LinuxSystem
import Sandboxes

/// `ps`: with `--format json` the host processes that stand for the container's, otherwise the guest's own.
enum PsVerb {
    @Loop static func perform(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let arguments = try Arguments(words, valued: ["format"], short: ["f": "format"])
        let container = try globals.engines.require(try arguments.id("ps"))
        let client: MonitorClient
        do { client = try MonitorClient(to: container) } catch { throw SandboxError("container not running", exitCode: 1) }
        switch arguments["format"] ?? "table" {
        case "json":
            try await client.ask(.engine(.holders))
            if case .document(let text) = try await client.answer() { print(text) }
        case "table":
            try await client.ask(.engine(.processes))
            switch try await client.answer() {
            case .processes(let titles, let rows): printTable([titles] + rows)
            case .failed(let sentence, _): throw SandboxError(sentence, exitCode: 1)
            default: throw SandboxError("the monitor gave an answer that does not fit the question", exitCode: 1)
            }
        default: throw SandboxError("invalid format option", exitCode: 1)
        }
        return 0
    }
}
