import ArgumentParser
import LinuxSystem
import Sandboxes

struct Stop: Verb {
    static let configuration = CommandConfiguration(
        commandName: "stop",
        abstract: "Ask containers to end, and kill them when they do not.")

    @Option(
        name: [.customShort("t"), .customLong("time"), .customLong("timeout")],
        help: "Seconds to wait before killing (default: the container's, 10).") var time: Int?
    @Option(name: .shortAndLong, help: "The signal to ask with (default: the container's).")
    var signal: String?
    @Argument(help: "Names or ids.") var containers: [String]

    func perform() async throws -> Int32 {
        let store = try await openStore()
        return try await ForEach.printed(containers) { reference in
            let container = try store.find(reference)
            if container.state.isLive {
                let name = signal ?? container.record.stopSignal
                guard let number = Signals.number(name) else {
                    throw SandboxError("unknown signal \"\(name)\": signal(7) lists them", exitCode: 1)
                }
                try await Ending(store, container).stop(signal: number, seconds: time ?? container.record.stopTimeout)
            }
        }
    }
}
