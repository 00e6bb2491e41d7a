import AgentClient
import Glibc
import LinuxSystem
import Machines

extension EngineSandbox {
    /// Saves the sandbox's container to `folder`, memory and devices: its files are the engine's. Then it goes on; or with `ends`, when
    /// `report` says so, ends.
    func save(
        _ container: EngineContainer, to folder: String, ends: Bool, report: @escaping @Loop (SavedState) async throws -> Bool
    ) async throws {
        let name = record.engine?.id ?? record.name
        guard container === self.container, let machine, let agent, let spec, let network else {
            throw SandboxError(
                "container \(name) is in another container's machine, which cannot be saved for it alone", exitCode: 1)
        }
        let id = record.id
        let others = try store.list().filter { $0.record.engine?.sandbox == id && $0.state.isLive }
        if let other = others.first {
            throw SandboxError(
                "container \(name) cannot be saved: container \(other.name) is in its machine, too", exitCode: 1)
        }
        if spec.disks.contains(where: { !$0.isFixed }) {
            throw SandboxError(
                "container \(name) cannot be saved: it has a disk of its own, which a checkpoint does not hold", exitCode: 1)
        }
        try container.mustRun()
        let recipe = try TemplateRecipe(spec, hypervisor: record.machine.hypervisor)
        var state = SavedState(guestName: planner.guestName, lastProcess: numbers.last, machine: recipe, facts: [:])
        state.network = network.saved
        let end: @Loop () async -> Void = { await container.force() }
        state.isPaused = container.isPaused
        // Its processes stand still in any case; the agent must not.
        if container.isPaused { try await machine.resume() }
        let outcome: (any Error)?
        do {
            try await MachineSaving(machine: machine, agent: agent, name: name).save(
                to: folder, copy: {}, report: { try await report(state.with($0, $1)) }, end: ends ? end : nil)
            outcome = nil
        } catch { outcome = error }
        // One that has ended stands still, too.
        if container.isPaused, await machine.ended(within: .zero) == nil { try await machine.pause() }
        if let outcome { throw outcome }
    }
}
