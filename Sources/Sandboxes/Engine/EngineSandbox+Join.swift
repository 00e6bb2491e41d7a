import CLinux
import AgentClient
import AgentProtocol
import Glibc
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
        let prefix = "\(id.prefix(12))-"
        let count = [streams.input, streams.output, streams.error].count { $0 }
        let handed = descriptors.take()
        let trees = handed.dropFirst(count)
        let names = ["root"] + joining.record.mounts.indices.map { "m\($0)" }
        guard trees.count == names.count else {
            throw SandboxError("the mounts of the container did not come with it", exitCode: 1)
        }
        let sockets = try trees.dropFirst().map { try HostSocket(at: $0) }
        let entries = try zip(names, trees).enumerated().compactMap {
            number, pair -> (entry: ShareEntry, tree: SharedDescriptor)? in
            if number > 0, sockets[number - 1] != nil { return nil }
            var status = stat()
            try checked("look at a mount") { fstat(pair.1.raw, &status) }
            let isReadOnly = number > 0 && joining.record.mounts[number - 1].readOnly
            let entry = ShareEntry(
                name: prefix + pair.0, hostPath: pair.0, isFile: status.st_mode & S_IFMT != S_IFDIR, readOnly: isReadOnly)
            return (entry: entry, tree: pair.1)
        }
        try await sharing.show(entries)
        do {
            var made = plan.container(id: id, prefix: "\(sharing.folder)/\(prefix)", sockets: sockets)
            made.pidNamespaceOf = owner.pidOf ?? ""
            made.ipcNamespaceOf = owner.ipcOf ?? ""
            // A pod's user namespace: one of the container's own, of the same ids.
            if plan.namespace("user")?.path?.isEmpty == false { made.map(self.plan.identities) }
            if plan.namespace("uts")?.path?.isEmpty == false { made.hostname = self.plan.spec.hostname ?? "" }
            let number = numbers.next()
            let filter = try plan.filter()
            let first = try plan.process(
                plan.spec.process ?? ProcessSpec(args: []), container: id, number: number, isExec: false, streams: streams,
                filter: filter)
            try await withDeadline(.seconds(600), awaiting: "the container's root in the guest") { [made] in
                try await agent.createContainer(made)
            }
            let held = try await withDeadline(.seconds(120), awaiting: "the container's process in the guest") {
                try await agent.start(first)
            }
            let output = ProcessStreams(held, log: nil, closesOutputs: !(plan.spec.process?.terminal ?? false))
            _ = output.attach(streams, Array(handed.prefix(count))) {}
            let relayed = zip(joining.record.mounts, sockets).map { ResolvedMount(mount: $0, socket: $1) }
            let relays = SocketRelays(agent, container: id, relayed) { [numbers] in numbers.next() }
            let container = EngineContainer(
                id: id, plan: plan, filter: filter, agent: agent, process: held, streams: output, machine: machine,
                chronicle: chronicle,
                addresses: [],
                numbers: numbers, isMember: true)
            container.relays = relays
            try makeDirectories(joining.paths.runtime)
            return (container, try EngineServer(container, in: self, at: joining.paths.socket))
        } catch {
            await leave(id, entries.map(\.entry.name))
            if let failure = error as? AgentFailure { throw SandboxError(agent: failure) }
            throw error
        }
    }

    /// Takes back what `join` made.
    func leave(_ id: String) async {
        guard let record = try? store.load(id)?.record else { return }  // removed: its entries go with the machine
        let prefix = "\(id.prefix(12))-"
        let names = ["root"] + record.mounts.indices.map { "m\($0)" }
        await leave(id, names.map { prefix + $0 })
    }

    private func leave(_ id: String, _ names: [String]) async {
        guard let agent, let sharing = machine?.sharing else { return }
        // It may never have been made, and the machine may be gone, with all that is in it.
        try? await withDeadline(.seconds(10), awaiting: "the guest's answer") { try await agent.removeContainer(id) }
        try? sharing.hide(names)  // as above
    }
}

/// Numbers for a machine's processes, none used twice.
@Loop
final class ProcessNumbers {
    /// 1 is the first container's, 2 the relay's.
    var last: UInt64 = 2

    func next() -> UInt64 {
        last += 1
        return last
    }
}
