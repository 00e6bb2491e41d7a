import CLinux
import AgentClient
import AgentProtocol
import Glibc
import HostNetwork
import LinuxSystem
import Machines

/// A saved container, as a monitor goes on with it.
struct SavedContainer: Sendable {
    private let found: SnapshotStore.Snapshot
    var manifest: SnapshotManifest { found.manifest }
    /// Whether it becomes another one, beside the one that was saved.
    let isFork: Bool

    init(_ folder: String, isFork: Bool) throws {
        found = try SnapshotStore.open(folder, String(folder.split(separator: "/").last ?? ""))
        self.isFork = isFork
    }

    var snapshot: Snapshot { found.machine }

    /// The address that it asks for: its own again, but for a fork.
    var wantedAddress: Endpoint? { isFork ? nil : manifest.saved.endpoint }

    /// The machine, with the disks of the container at `paths`, and what `host` has for it.
    func spec(
        _ planner: Planner, on host: Planner.Host, nics: [NIC]? = nil, mounts: [ResolvedMount], paths: ContainerPaths
    ) throws -> MachineSpec {
        let (machine, fixed) = (manifest.saved.machine, manifest.fixed)
        if let image = machine.stubdomain, let lacking = [image.kernel, image.ramdisk].first(where: { !exists($0) }) {
            throw SandboxError(
                "the image of its device model is gone, with which the machine was saved (\(lacking)): make it with hull stubdomain build"
            )
        }
        var spec = machine.spec(id: planner.record.id, consoleLog: host.consoleLog, confinement: host.confinement) {
            fixed[$0.name] == nil ? paths.disk($0.name) : $0.fixedPath ?? ""
        }
        let entries = planner.shareEntries(mounts, rootMounts: host.rootMounts)
        spec.share = manifest.saved.machine.shareTag.map { Share(tag: $0, entries: entries) }
        spec.nics = nics ?? host.nic.map { [$0] } ?? []
        guard spec.nics.count == manifest.saved.machine.mtus.count, (spec.share == nil) == entries.isEmpty else {
            throw SandboxError(
                "the saved machine has other devices than the container asks for: the snapshot is none of this Hull's")
        }
        return spec
    }

    /// What the agent is told before anything of the container runs.
    func identity(_ planner: Planner, _ endpoint: Endpoint?, entropy: [UInt8], now: Int64) -> Identity {
        var identity = Identity()
        identity.entropy = entropy
        identity.realtime = UInt64(now)
        let before = manifest.saved.endpoint
        if let endpoint { planner.network(endpoint, in: &identity) }
        let isMoved = endpoint?.ipv4 != before?.ipv4 || endpoint?.mac != before?.mac
        if isMoved, let before, !identity.interfaces.isEmpty {
            identity.interfaces[0].dropped = ["\(before.ipv4)"] + (before.ipv6.map { ["\($0)"] } ?? [])
        }
        var container = ContainerIdentity()
        container.container = manifest.saved.guestName
        let files = Guestfiles(record: planner.record, endpoint: endpoint)
        // It is booted as little as a fork is: whoever asks is to see that it is not the one that was saved.
        container.files = isFork || isMoved ? files.all : files.boot
        if isFork {
            identity.hostname = planner.record.hostname
            identity.machineID = String(planner.record.id.prefix(32))
            container.hostname = planner.record.hostname
        }
        identity.containers = [container]
        return identity
    }

    /// Greets the agent and makes the machine this one; returns the container's first process. Nothing of the container ran before.
    @Loop
    func resume(_ agent: AgentConnection, _ planner: Planner, _ endpoint: Endpoint?) async throws -> GuestProcess {
        let identity = identity(planner, endpoint, entropy: Sandbox.entropy(), now: Timestamp.now.nanoseconds)
        return try await resume(agent, as: identity, keeping: [1])
    }

    /// The same, with an identity of the caller's; relays of these numbers go on.
    @Loop
    func resume(_ agent: AgentConnection, as identity: Identity, keeping kept: Set<UInt64>) async throws -> GuestProcess {
        let state = try await withDeadline(.seconds(60), awaiting: "the first word of the restored agent") {
            try await agent.hello(restored: true)
        }
        guard state.isConfigured, let first = agent.adopted.first(where: { $0.number == 1 }) else {
            throw SandboxError("the agent of the saved machine is not where it was left")
        }
        try await withDeadline(.seconds(60), awaiting: "the guest's new identity") { try await agent.setIdentity(identity) }
        for process in agent.adopted where !kept.contains(process.number) {
            // A relay's other end was the saved container's. Nobody reads what execs write: they must not stand still for that. One may have
            // ended meanwhile.
            let isRelay = state.processes.contains { $0.process == process.number && $0.isRelay }
            do { try await isRelay ? process.signal(SIGKILL) : process.discardOutput() } catch is AgentFailure {}
        }
        agent.followClock()
        return first
    }
}
