import AgentClient
import CLinux
import Glibc
import LinuxSystem
import Machines

extension EngineContainer {
    /// Saves it to `folder`, memory and devices of the sandbox's machine: its files are the engine's. Then it goes on; or with `ends`, when
    /// `report` says so, ends.
    func save(
        in sandbox: EngineSandbox, to folder: String, ends: Bool, report: @escaping @Loop (SavedState) async throws -> Bool
    ) async throws {
        try await turns.take {
            let record = sandbox.record
            let name = record.engine?.id ?? record.name
            guard self === sandbox.container, let spec = sandbox.spec, let network = sandbox.network else {
                throw SandboxError(
                    "container \(name) is in another container's machine, which cannot be saved for it alone", exitCode: 1)
            }
            let others = try sandbox.store.list().filter { $0.record.engine?.sandbox == record.id && $0.state.isLive }
            if let other = others.first {
                throw SandboxError(
                    "container \(name) cannot be saved: container \(other.name) is in its machine, too", exitCode: 1)
            }
            if spec.disks.contains(where: { !$0.isFixed }) {
                throw SandboxError(
                    "container \(name) cannot be saved: it has a disk of its own, which a checkpoint does not hold", exitCode: 1)
            }
            guard isStarted else { throw SandboxError("container not running", exitCode: 1) }
            let recipe = try TemplateRecipe(spec, hypervisor: record.machine.hypervisor)
            var state = SavedState(
                guestName: sandbox.planner.guestName, lastProcess: sandbox.numbers.last, machine: recipe, facts: [:])
            state.network = network.saved
            let end: @Loop () async -> Void = { await self.force() }
            state.isPaused = isPaused
            // Its processes stand still in any case; the agent must not.
            if isPaused { try await machine.resume() }
            var outcome: (any Error)?
            do {
                try await MachineSaving(machine: machine, agent: agent, name: name).save(
                    to: folder, copy: {}, report: { try await report(state.with($0, $1)) }, end: ends ? end : nil)
            } catch { outcome = error }
            // One that has ended stands still, too.
            if isPaused, await machine.ended(within: .zero) == nil { try await machine.pause() }
            if let outcome { throw outcome }
        }
    }
}

extension EngineSandbox {
    /// Makes the mount points that are missing in a root of an engine's own making: the saved guest has mounts on them, and would lose those.
    /// Every path is looked up within the root, whatever links are in it.
    static func makePoints(_ mounts: [ResolvedMount], in root: String) throws {
        let inRoot: UInt64 = 0x10  // RESOLVE_IN_ROOT
        let top = try openFile(root, O_PATH | O_DIRECTORY)
        for mount in mounts {
            var path = ""
            let parts = mount.mount.destination.split(separator: "/")
            for (index, part) in parts.enumerated() {
                let parent = try openBelow(top.raw, path.isEmpty ? "." : path, O_PATH | O_DIRECTORY, resolve: inRoot)
                path += path.isEmpty ? "\(part)" : "/\(part)"
                let there = hull_openat2(top.raw, path, UInt64(UInt32(bitPattern: O_PATH | O_CLOEXEC)), 0, inRoot)
                if there >= 0 {
                    close(there)
                    continue
                }
                guard errno == ENOENT else { throw SystemError("look at the mount point", path) }
                if index == parts.count - 1, mount.isFile || mount.socket != nil {
                    let file = openat(parent.raw, "\(part)", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o755)
                    close(try checked("make the mount point", path) { file })
                } else {
                    try checked("make the mount point", path) { mkdirat(parent.raw, "\(part)", 0o755) }
                }
            }
        }
    }
}
