import AgentClient
import LinuxSystem
import Machines

/// Standing still: it is the machine's, so that nothing in the guest runs, not even its kernel; memory, disks and connections stay.
extension RunningContainer {
    /// Stands the machine still, at once.
    func pause() async throws {
        try await turns.take {
            guard !isPaused else { throw SandboxError("container \(record.name) is paused already", exitCode: 1) }
            try await machine.pause()
            isPaused = true
            try chronicle.paused(true)
        }
    }

    /// Lets it go on; its wall clock is set right at once.
    func unpause() async throws {
        try await turns.take {
            guard isPaused else { throw SandboxError("container \(record.name) is not paused", exitCode: 1) }
            try await machine.resume()
            isPaused = false
            // What was measured of its clock before is of no use: a new measurement begins, with a step.
            agent.followClock()
            try chronicle.paused(false)
        }
    }

    /// Throws while it is paused: a guest that stands still answers nothing.
    func mustRun(_ purpose: String) throws {
        guard isPaused else { return }
        throw SandboxError("container \(record.name) is paused: hull unpause it before \(purpose)", exitCode: 1)
    }
}
