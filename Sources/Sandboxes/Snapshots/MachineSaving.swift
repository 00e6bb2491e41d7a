import CLinux
import AgentClient
import Glibc
import LinuxSystem
import Machines

/// Saving a machine in which an agent runs: its processes, the guest and the stream to the agent stand still at one moment.
@Loop
struct MachineSaving {
    let machine: any VirtualMachine
    let agent: AgentConnection
    /// Whose machine, for sentences.
    let name: String

    /// Saves memory and devices to `folder`; `copy` is run while everything stands still. Then the machine goes on, and `report` is told the
    /// driver's facts, and for how long the containers stood still. With an `end` everything stands still until `report` answers whether to
    /// call it, so that nothing of what was saved happens twice. With a `parent`, only what is different in the memory is written.
    func save(
        to folder: String, over parent: Snapshot? = nil, copy: @Loop () throws -> Void,
        report: @Loop ([String: String], Duration) async throws -> Bool,
        end: (@Loop () async -> Void)?
    ) async throws {
        guard let snapshotting = machine.snapshotting else {
            throw SandboxError("container \(name) cannot be saved: its machine's driver does not know how", exitCode: 1)
        }
        let files = try [SnapshotManifest.file("memory", isDifference: parent != nil), "state"].map {
            SharedDescriptor(try openFile("\(folder)/\($0)", O_RDWR | O_CREAT | O_EXCL))
        }
        var began = ContinuousClock.now
        let agent = agent
        let facts: [String: String]
        do {
            facts = try await snapshotting.save(
                memory: files[0], state: files[1], over: parent,
                beforeStill: {
                    Fault.point("save:copied")
                    // Its disks are synced first; standing still is the last that its agent does before it answers.
                    _ = try await withDeadline(.seconds(60), awaiting: "the guest's standing still") { try await agent.quiesce() }
                    began = .now
                },
                whileStill: {
                    try copy()
                    Fault.point("save:still")
                })
        } catch {
            await goOn()
            throw error
        }
        guard let end else {
            await goOn()
            _ = try await report(facts, .now - began)
            return
        }
        let isWanted: Bool
        do { isWanted = try await report(facts, .now - began) } catch {
            await goOn()
            throw error
        }
        if isWanted { await end() } else { await goOn() }
    }

    /// After a save, or a failed one. Where it cannot go on, its machine has ended, or is ended here: who waits for it is told.
    private func goOn() async {
        do {
            try await machine.resume()
            let agent = agent
            if agent.isQuiesced {
                try await withDeadline(.seconds(60), awaiting: "the guest's going on") { _ = try await agent.resume() }
            } else {
                agent.followClock()
            }
        } catch {
            StandardStreams.complain("hull-monitor: after a save: \(error)")
            await machine.stop(grace: .zero)
        }
    }
}

extension Duration {
    var nanoseconds: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }
}
