import Glibc
import LinuxSystem
import Sandboxes

/// `events`: a container's statistics, once or again and again.
enum EventsVerb {
    @Loop static func perform(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let arguments = try Arguments(words, valued: ["interval"], plain: ["stats"])
        let id = try arguments.id("events")
        let container = try globals.engines.require(id)
        guard container.engineStatus != .stopped else {
            throw SandboxError("container with id \(id) is not running", exitCode: 1)
        }
        let text = arguments["interval"] ?? "5s"
        let seconds = Double(text.hasSuffix("ms") ? text.dropLast(2) : text.hasSuffix("s") ? text.dropLast() : text[...]) ?? 0
        guard seconds > 0 else { throw SandboxError("duration interval must be greater than 0", exitCode: 1) }
        let pause = Duration.milliseconds(Int64(seconds * (text.hasSuffix("ms") ? 1 : 1000)))
        repeat {
            do {
                let client = try MonitorClient(to: container)
                try await client.ask(.engine(.statistics))
                guard case .document(let data) = try await client.answer() else { return 0 }
                print("{\"type\":\"stats\",\"id\":\(Globals.quoted(id)),\"data\":\(data)}")
                fflush(nil)
            } catch let error as SandboxError where !arguments.has("stats") && error.exitCode != 0 {
                return 0  // it ended
            }
            if arguments.has("stats") { return 0 }
            try await sleep(for: pause)
        } while true
    }
}
