import CLinux
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
    /// Saves it to `folder`: memory, devices, disks and log, all of one moment. Then it goes on; or with `ends`, when `report` says so, ends.
    /// With the folder of a `parent`, only what is different in memory and disks is written.
    func save(
        to folder: String, ends: Bool, parent: String?, report: @escaping @Loop (SavedState) async throws -> Bool
    ) async throws {
        try await turns.take {
            try mustRun("it can be saved")
            guard let origin else {
                throw SandboxError(
                    "container \(record.name) cannot be saved: its machine was, and will be, other containers' too (--resident)",
                    exitCode: 1)
            }
            var state = SavedState(guestName: planner.guestName, lastProcess: numbers.last, machine: origin.recipe, facts: [:])
            state.endpoint = origin.endpoint
            let parent = try parent.map { try SnapshotStore.open($0, String($0.split(separator: "/").last ?? "")) }
            if let parent { try SnapshotStore.check(parent, for: origin.recipe, of: record.name) }
            let copy: @Loop () throws -> Void = { try self.copyFiles(of: origin, to: folder, over: parent) }
            let end: @Loop () async -> Void = { await self.end() }
            try await MachineSaving(machine: machine, agent: agent, name: record.name).save(
                to: folder, over: parent?.machine, copy: copy, report: { try await report(state.with($0, $1)) },
                end: ends ? end : nil
            )
        }
    }

    /// The disks, of which those that nobody writes to are linked, and the log, with what is on its way into it.
    private func copyFiles(of origin: MachineOrigin, to folder: String, over parent: SnapshotStore.Snapshot?) throws {
        for disk in origin.spec.disks {
            let name = "disk-\(disk.name)"
            let target = "\(folder)/\(name)"
            if disk.readOnly, link(disk.path, target) == 0 { continue }
            if let parent, !disk.readOnly {
                try parent.saveChanges(
                    of: name, now: disk.path, to: "\(folder)/\(SnapshotManifest.file(name, isDifference: true))")
            } else {
                try copySparse(from: disk.path, to: target)
            }
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
}
