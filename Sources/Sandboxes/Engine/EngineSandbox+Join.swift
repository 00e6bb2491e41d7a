import AgentClient
import AgentProtocol
import LinuxSystem
import Machines
import OCISpec

extension EngineSandbox {
    /// Another container of an engine in this sandbox's machine. Returns when it stands ready.
    func join(
        _ id: String, _ streams: Streams, _ descriptors: HandedDescriptors, holder: ProcessIdentity
    ) async throws -> (container: EngineContainer, server: EngineServer) {
        guard let machine, let agent, let sharing = machine.sharing else {
            throw SandboxError("this sandbox takes no further container", exitCode: 1)
        }
        guard let joining = try store.load(id), let owner = joining.record.engine else {
            throw SandboxError("container was removed meanwhile", exitCode: 1)
        }
        let plan = try BundlePlan(try RuntimeSpec(parsing: try readFile(joining.paths.bundle)), bundle: owner.bundle)
        let chronicle = Chronicle(store, id, monitor: holder)
        try chronicle.starting()
        let mounts = try Self.resolveMounts(joining.record, joining.paths)
        let prefix = "\(id.prefix(12))-"
        let entries = Planner(joining.record).shareEntries(mounts).map { entry in
            var entry = entry
            entry.name = prefix + entry.name
            return entry
        }
        try await sharing.show(entries)
        do {
            var made = plan.container(id: id, prefix: "\(sharing.folder)/\(prefix)")
            made.pidNamespaceOf = owner.pidOf ?? ""
            made.ipcNamespaceOf = owner.ipcOf ?? ""
            if plan.namespace("uts")?.path?.isEmpty == false { made.hostname = self.plan.spec.hostname ?? "" }
            let number = numbers.next()
            let first = try plan.process(
                plan.spec.process ?? ProcessSpec(args: []), container: id, number: number, isExec: false, streams: streams)
            try await withDeadline(.seconds(600), awaiting: "the container's root in the guest") { [made] in
                try await agent.createContainer(made)
            }
            let held = try await withDeadline(.seconds(120), awaiting: "the container's process in the guest") {
                try await agent.start(first)
            }
            let output = ProcessStreams(held, log: nil, closesOutputs: !(plan.spec.process?.terminal ?? false))
            _ = output.attach(streams, descriptors.take()) {}
            let container = EngineContainer(
                id: id, plan: plan, agent: agent, process: held, streams: output, machine: machine, chronicle: chronicle,
                addresses: [],
                numbers: numbers, isMember: true)
            try makeDirectories(joining.paths.runtime)
            return (container, try EngineServer(container, in: self, at: joining.paths.socket))
        } catch {
            await leave(id, entries)
            if let failure = error as? AgentFailure { throw SandboxError(agent: failure) }
            throw error
        }
    }

    /// Takes back what `join` made.
    func leave(_ id: String) async {
        guard let record = try? store.load(id)?.record else { return }  // removed: its entries go with the machine
        let prefix = "\(id.prefix(12))-"
        let names = ["root"] + record.mounts.indices.map { "m\($0)" }
        await leave(id, names.map { ShareEntry(name: prefix + $0, hostPath: "") })
    }

    private func leave(_ id: String, _ entries: [ShareEntry]) async {
        guard let agent, let sharing = machine?.sharing else { return }
        // It may never have been made, and the machine may be gone, with all that is in it.
        try? await withDeadline(.seconds(10), awaiting: "the guest's answer") { try await agent.removeContainer(id) }
        try? sharing.hide(entries.map(\.name))  // as above
    }
}

/// Numbers for a machine's processes, none used twice.
@Loop
final class ProcessNumbers {
    /// 1 is the first container's, 2 the relay's.
    private var last: UInt64 = 2

    func next() -> UInt64 {
        last += 1
        return last
    }
}
