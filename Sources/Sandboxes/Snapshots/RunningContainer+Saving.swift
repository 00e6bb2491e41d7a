import AgentClient
import Glibc
import HostNetwork
import LinuxSystem
import Machines
import Storage

/// What a save must know of a running machine, besides what runs in it.
struct MachineOrigin: Sendable {
    var spec: MachineSpec
    var recipe: TemplateRecipe
    var endpoint: Endpoint?
    var paths: ContainerPaths
}

extension RunningContainer {
    /// Saves it to `folder`: memory, devices, disks and log, all of one moment, at which its processes, the guest and the stream to the
    /// agent stand still. Then it ends, or goes on.
    func save(to folder: String, ends: Bool) async throws -> SavedState {
        try mustRun("it can be saved")
        guard let origin, let snapshotting = machine.snapshotting else {
            throw SandboxError("container \(record.name) cannot be saved: its machine's driver does not know how", exitCode: 1)
        }
        guard !isSaving else { throw SandboxError("container \(record.name) is being saved already", exitCode: 1) }
        isSaving = true
        defer { isSaving = false }
        let files = try ["memory", "state"].map {
            SharedDescriptor(try openFile("\(folder)/\($0)", O_RDWR | O_CREAT | O_EXCL))
        }
        var began = ContinuousClock.now
        let agent = agent
        let facts: [String: String]
        do {
            facts = try await snapshotting.save(
                memory: files[0], state: files[1],
                beforeStill: {
                    Fault.point("save:copied")
                    // Its disks are synced first; standing still is the last that its agent does before it answers.
                    _ = try await withDeadline(.seconds(60), awaiting: "the guest's standing still") { try await agent.quiesce() }
                    began = .now
                },
                whileStill: {
                    try self.copyFiles(of: origin, to: folder)
                    Fault.point("save:still")
                })
        } catch {
            await goOn()
            throw error
        }
        if ends {
            await end()
        } else {
            await goOn()
        }
        return SavedState(
            guestName: planner.guestName, lastProcess: numbers.last, machine: origin.recipe, facts: facts,
            endpoint: origin.endpoint,
            still: (ContinuousClock.now - began).nanoseconds)
    }

    /// The disks, of which those that nobody writes to are linked, and the log, with what is on its way into it.
    private func copyFiles(of origin: MachineOrigin, to folder: String) throws {
        for disk in origin.spec.disks {
            let target = "\(folder)/disk-\(disk.name)"
            if disk.readOnly, link(disk.path, target) == 0 { continue }
            try copySparse(from: disk.path, to: target)
        }
        for name in [origin.paths.log, "\(origin.paths.log).1"] where exists(name) {
            try copySparse(from: name, to: "\(folder)/\(name.split(separator: "/").last!)")
        }
        var log = try ContainerLog("\(folder)/container.log")
        for stream in [OutputStream.stdout, .stderr] {
            let bytes = process.unread(.init(stream))
            if !bytes.isEmpty { try log.append(bytes, from: stream, at: Timestamp.now.nanoseconds) }
        }
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
    fileprivate var nanoseconds: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }
}
