import AgentClient
import AgentProtocol
import Glibc
import LinuxSystem

extension AgentConnection {
    /// How long a guest may take to its agent's first word: HULL_BOOT_TIMEOUT seconds, or two minutes.
    static var bootDeadline: Duration {
        .seconds(getenv("HULL_BOOT_TIMEOUT").flatMap { Int(String(cString: $0)) } ?? 120)
    }

    /// Waits for the agent's first word. A clone's agent must be where the template's was left: set up, with nothing running.
    func greet(isClone: Bool) async throws {
        let state = try await withDeadline(
            // A clone's agent runs already; but on a busy host a tenth of a second becomes many, and a boot would take longer still.
            isClone ? Self.bootDeadline / 2 : Self.bootDeadline, awaiting: "the first word of the agent in the guest"
        ) { try await self.hello() }
        if isClone, !state.isConfigured || !state.processes.isEmpty {
            throw SandboxError("the agent of the clone is not where the template left it")
        }
    }
}
