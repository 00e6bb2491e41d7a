import AgentClient
import AgentProtocol
import FoundationEssentials
import Glibc
public import LinuxSystem
public import Machines
import Netlink
import Storage

/// Makes templates: boots a machine with stand-ins for what a clone has of its own, brings its agent to where the first request of a
/// sandbox would come, and saves it. Runs in a process that is PID 1 of namespaces of its own (pid, mount, network), so that a kill takes
/// the machine along; what is left in the store then, the next maker or verb collects.
@Loop
public struct TemplateBuilder {
    /// One VMM at a time has this range of user ids, above those of all sandboxes (`Identifiers`).
    static let uidBase: UInt32 = 0xF000_0000
    /// How long a stand-in may boot. It may wait for processors that others use.
    private static let bootDeadline = Duration.seconds(300)

    private let store: TemplateStore
    private let formatted: String
    private let drivers: [String: @Sendable () -> any Hypervisor]

    /// By one of `drivers`, named as `--hypervisor` has them.
    public nonisolated init(roots: Roots, drivers: [String: @Sendable () -> any Hypervisor]) {
        store = roots.templates
        formatted = "\(roots.cache)/disks"
        self.drivers = drivers
    }

    /// Makes all that are wanted, one after the other; does nothing while another process does. What cannot be made is refused for a
    /// while, with the reason.
    public func makeWanted() async throws {
        while let (key, recipe) = try store.wanted().first {
            guard let making = try await store.begin({ try await TemplateMachine.reclaim(in: $0, by: drivers) }) else { return }
            do {
                try await make(try JSONDecoder().decode(TemplateRecipe.self, from: Data(recipe)), as: key, making)
                try store.end(making)
            } catch {
                try store.end(making)
                try store.refuse(key, "\(error)")
                StandardStreams.complain("hull: the template \(key) could not be made: \(error)")
            }
        }
    }

    private func make(_ recipe: TemplateRecipe, as key: String, _ making: TemplateStore.Making) async throws {
        guard let hypervisor = drivers[recipe.hypervisor]?(), let templating = hypervisor.templating else {
            throw SandboxError("the hypervisor \"\(recipe.hypervisor)\" makes no templates")
        }
        Fault.point("template:begun")
        for (name, size) in recipe.standIns {
            let file = try openFile("\(making.folder)/\(name)", O_RDWR | O_CREAT | O_EXCL)
            try checked("set the length of", name) { ftruncate(file.raw, Int(size)) }
        }
        for (name, size) in recipe.freshDisks {
            try await WritableDisk.make("\(making.folder)/disk-\(name)", sizeBytes: size, templates: formatted)
        }
        // Frames of a guest that has no address yet go nowhere: the taps are in this process's own network namespace.
        // What a driver makes itself is connected to nothing.
        let ends: [NIC.HostEnd] = try recipe.mtus.indices.map {
            hypervisor.traits.nicEnd == .tap ? .tap(try Tap.open("hull-template\($0)")) : .interface { _ in }
        }
        let machine = TemplateMachine(hypervisor: recipe.hypervisor, id: ContainerStore.newIdentifier())
        let spec = recipe.spec(
            in: making.folder, id: machine.id, nics: ends,
            confinement: UserNamespace.isInitial ? Confinement(uidBase: Self.uidBase) : .rootless)
        let shape = try templating.shape(of: spec)
        guard TemplateRecipe.key(shape) == key else {
            throw SandboxError("something that it depends on has changed since it was wanted")
        }
        if hypervisor.reclaiming != nil { try machine.note(in: making.folder) }
        try await templating.check(spec)
        let machineFolder = "\(making.folder)/machine"
        try makeDirectories(machineFolder)
        let facts = try await hypervisor.withMachine(.boot(spec), in: MachineDirectory(machineFolder)) { machine in
            try await Self.prepareAndSave(machine, recipe, in: making.folder)
        }
        Fault.point("template:saved")
        for name in recipe.standIns.map(\.name) { unlink("\(making.folder)/\(name)") }
        for name in ["console.log", "console.log.1"] { unlink("\(making.folder)/\(name)") }
        for name in try listDirectory(machineFolder) { unlink("\(machineFolder)/\(name)") }
        rmdir(machineFolder)
        try TemplateMachine.forget(in: making.folder)
        try store.publish(
            making, as: key, title: recipe.title, shape: shape, created: Timestamp.now.nanoseconds, facts: facts,
            disks: recipe.freshDisks.map(\.name))
        Fault.point("template:published")
        try store.evict(limit: Self.sizeLimit, keeping: key)
    }

    /// Bytes on the disk of all templates together: HULL_TEMPLATE_LIMIT in MiB, or 4 GiB.
    private static var sizeLimit: UInt64 {
        UInt64(getenv("HULL_TEMPLATE_LIMIT").flatMap { Int(String(cString: $0)) }.map { max(0, $0) } ?? 4096) << 20
    }

    /// Everything that a start would do in the guest before it knows which container it is for. What makes a machine this machine (entropy,
    /// clock, names, addresses) is left to the clone.
    private static func prepareAndSave(
        _ machine: any VirtualMachine, _ recipe: TemplateRecipe, in folder: String
    ) async throws -> [String: String] {
        guard let snapshotting = machine.snapshotting else { throw SandboxError("the driver cannot save the machine") }
        let agent = AgentConnection(stream: try await machine.connect())
        do {
            try await withDeadline(bootDeadline, awaiting: "the first word of the agent in the template") {
                _ = try await agent.hello()
            }
            var configuration = SandboxConfiguration()
            if let modules = machine.guest.disks["modules"] {
                configuration.modules = DiskConfiguration(device: modules.path, type: "erofs")
            }
            // Mounting an ext4 takes a clone longer than all else that it does before its container's process.
            configuration.disks = recipe.freshDisks.compactMap { machine.guest.disks[$0.name] }.map {
                DiskConfiguration(device: $0.path, type: "ext4")
            }
            configuration.identity.put = recipe.put
            configuration.prepares = true
            let sent = configuration
            try await withDeadline(bootDeadline, awaiting: "the template's set-up") {
                try await agent.configure(sent, followsClock: false)
                _ = try await agent.quiesce()
            }
        } catch {
            let tail = machine.consoleTail(lines: 20)
            throw tail.isEmpty ? error : SandboxError("\(error)\nthe last of the guest's console:\n\(tail)")
        }
        let files = try ["memory", "state"].map {
            SharedDescriptor(try openFile("\(folder)/\($0)", O_RDWR | O_CREAT | O_EXCL))
        }
        try await snapshotting.shrink()
        let facts = try await snapshotting.save(memory: files[0], state: files[1], over: nil, beforeStill: {}, whileStill: {})
        agent.close()
        return facts
    }
}
