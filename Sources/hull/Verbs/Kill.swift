import ArgumentParser
import LinuxSystem
import Sandboxes

struct Kill: Verb {
    static let configuration = CommandConfiguration(commandName: "kill", abstract: "Send a signal to containers.")

    @Option(name: .shortAndLong, help: "The signal, by name or number.") var signal = "KILL"
    @Argument(help: "Names or ids.") var containers: [String]

    func perform() async throws -> Int32 {
        guard let number = Signals.number(signal) else {
            throw SandboxError("unknown signal \"\(signal)\": signal(7) lists them", exitCode: 1)
        }
        return try await ForEach.ask(.kill(number), of: containers, in: try await openStore())
    }
}
