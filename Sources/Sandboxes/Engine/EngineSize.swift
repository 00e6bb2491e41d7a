import AgentClient
import Glibc
import LinuxSystem
import Machines
import OCISpec

/// How large an engine's machine is: it follows its container's limits while it runs.
@Loop
final class EngineSize {
    private let agent: AgentConnection
    private let resizing: any Resizing
    private let host: Cgroup?
    private var memory: UInt64
    private var processors: Int

    /// For a machine that can be resized; nil for another. `host` is the cgroup that bounds its processes.
    init?(_ machine: any VirtualMachine, _ agent: AgentConnection, _ planner: Planner, host: Cgroup?) {
        guard let resizing = machine.resizing else { return nil }
        self.resizing = resizing
        self.agent = agent
        self.host = host
        memory = planner.memory
        processors = planner.processors
    }

    /// How many processors the host has.
    nonisolated static var hostProcessors: Double { Double(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

    /// What such a machine may become: all that the host has. Memory that does not come costs nothing.
    nonisolated static func growth(of spec: MachineSpec) -> MachineSpec.Growth {
        let whole = UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))) * UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
        // Above it a virtual processor with 40 address bits, as TCG's, has no place for it.
        let most: UInt64 = 512 << 30
        return MachineSpec.Growth(
            memoryBytes: max(spec.memoryBytes, min(whole, most)), vcpus: max(spec.vcpus, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    }

    /// What the machine is to have for these limits; what they do not name stays.
    private func wanted(_ resources: ResourceLimits) -> (memory: UInt64, processors: Int) {
        let limit = BundlePlan.machineMemory(resources.memory?.limit)
        return (
            limit.map { Planner.memory(for: $0) } ?? memory,
            BundlePlan.cpus(resources.cpu).map { Planner.processors(for: min($0, Self.hostProcessors)) } ?? processors
        )
    }

    /// Before the container's limits change: gives the machine what it needs more. When it throws, the container's limits are as they were.
    func grow(for resources: ResourceLimits) async throws {
        let wanted = wanted(resources)
        if wanted.memory > memory { try await change(memory: wanted.memory) }
        if wanted.processors > processors { try await change(processors: wanted.processors) }
    }

    /// When they have changed: takes back what it needs no more, as far as the guest can spare it.
    func shrink(for resources: ResourceLimits) async throws {
        let wanted = wanted(resources)
        if wanted.memory < memory { try await change(memory: wanted.memory) }
        if wanted.processors < processors { try await change(processors: wanted.processors) }
    }

    private func change(memory bytes: UInt64) async throws {
        try await ask(processors: 0, modules: resizing.modules)
        if bytes > memory { try host?.limit(memory: bytes + BundlePlan.overhead) }
        memory = try await resizing.resize(memory: bytes)
        // What a guest keeps is its own to use.
        try host?.limit(memory: max(bytes, memory) + BundlePlan.overhead)
        if memory < bytes {
            throw SandboxError(
                "the machine took \(memory >> 20) of \(bytes >> 20) MiB of memory: its kernel needs virtio-mem", exitCode: 1)
        }
    }

    private func change(processors count: Int) async throws {
        try await ask(processors: count, modules: [])
        processors = count
    }

    private func ask(processors: Int, modules: [String]) async throws {
        let agent = agent
        try await withDeadline(.seconds(30), awaiting: "the guest's processors") {
            try await agent.resize(processors: processors, modules: modules)
        }
    }
}
