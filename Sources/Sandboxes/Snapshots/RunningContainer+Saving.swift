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
    func save(to folder: String, ends: Bool, report: @escaping @Loop (SavedState) async throws -> Bool) async throws {
        try mustRun("it can be saved")
        guard let origin else {
            throw SandboxError(
                "container \(record.name) cannot be saved: its machine was, and will be, other containers' too (--resident)",
                exitCode: 1)
        }
        guard !isSaving else { throw SandboxError("container \(record.name) is being saved already", exitCode: 1) }
        isSaving = true
        defer { isSaving = false }
        var state = SavedState(guestName: planner.guestName, lastProcess: numbers.last, machine: origin.recipe, facts: [:])
        state.endpoint = origin.endpoint
        let copy: @Loop () throws -> Void = { try self.copyFiles(of: origin, to: folder) }
        let end: @Loop () async -> Void = { await self.end() }
        try await MachineSaving(machine: machine, agent: agent, name: record.name).save(
            to: folder, copy: copy, report: { try await report(state.with($0, $1)) }, end: ends ? end : nil)
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
}
