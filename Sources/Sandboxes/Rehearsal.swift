import AgentClient
import AgentProtocol
import CLinux
import Glibc
import LinuxSystem
import Machines
import Netlink

/// A container's life in a machine of a template, from the set-up of its network to its end, after which the machine is as it was before,
/// prepared for its first container: all of the guest's code that a start needs has run then.
@Loop
struct Rehearsal {
    private let recipe: TemplateRecipe
    private let planner: Planner
    private let mounts: [ResolvedMount]

    /// `folder` is made, for what is shared with the guest where the recipe has a share.
    init(_ recipe: TemplateRecipe, in folder: String) throws {
        self.recipe = recipe
        let hasShare = recipe.shareTag != nil
        let hasRoot = recipe.disks.contains { $0.name == "root" }
        if hasShare {
            try makeDirectories(folder, mode: 0o755)
            try replaceFile("\(folder)/\(Self.name)", Self.smallestProgram)
            try checked("make executable", "\(folder)/\(Self.name)") { chmod("\(folder)/\(Self.name)", 0o755) }
        }
        var request = RunRequest()
        request.command = [hasShare && hasRoot ? "/mnt/\(Self.name)" : "/\(Self.name)"]
        planner = Planner(
            try request.record(
                id: String(repeating: "0", count: 64), root: hasRoot ? .image(reference: "", id: "", file: "") : .folder(folder),
                image: nil, now: 0))
        mounts =
            hasShare && hasRoot
            ? [ResolvedMount(mount: .init(source: .bind(folder), destination: "/mnt"), hostPath: folder)] : []
    }

    /// What the share is to show.
    var entries: [ShareEntry] { planner.shareEntries(mounts) }

    func run(_ machine: any VirtualMachine) async throws {
        let agent = AgentConnection(stream: try await machine.connect())
        try await agent.hello()
        var sandbox = planner.sandbox(
            machine.guest, endpoint: nil, entropy: Sandbox.entropy(), now: Timestamp.now.nanoseconds)
        sandbox.modules = nil
        connect(&sandbox.identity)
        try await agent.configure(sandbox, followsClock: false)
        var container = try planner.container(machine.guest, mounts: mounts, endpoint: nil)
        container.root.isRehearsal = true
        if recipe.shareTag == nil {
            container.files.append(FileConfiguration(path: "/\(Self.name)", content: Self.smallestProgram, mode: 0o755))
        }
        try await agent.createContainer(container)
        let process = try await agent.start(
            try planner.process(planner.record.process, number: 1 << 40, isExec: false, streams: Streams()))
        while await process.readOutput(.stdout) != nil {}
        let status = try await process.wait()
        guard status == .code(0) else { throw SandboxError("the guest's rehearsal ended with \(status)") }
        try await agent.removeContainer(container.id)
        var configuration = SandboxConfiguration()
        disconnect(&configuration.identity)
        configuration.prepares = true
        try await agent.configure(configuration, followsClock: false)
        _ = try await agent.quiesce()
        agent.close()
    }

    /// The first NIC as a container's, with addresses of nobody's (RFC 5737, RFC 3849).
    private func connect(_ identity: inout Identity) {
        guard !recipe.mtus.isEmpty else { return }
        var interface = Self.interface
        if recipe.mtus.count > 1 { interface.spare = NamespaceNetwork.spareName(0) }
        identity.interfaces = [interface]
        for gateway in ["192.0.2.1", "2001:db8::1"] {
            var route = RouteConfiguration()
            route.gateway = gateway
            route.device = interface.name
            identity.routes.append(route)
        }
    }

    private func disconnect(_ identity: inout Identity) {
        guard !recipe.mtus.isEmpty else { return }
        var interface = Self.interface
        if recipe.mtus.count > 1 {
            interface.mac = []
            interface.spare = NamespaceNetwork.spareName(0)
            identity.put = [interface]
        } else {
            interface.dropped = interface.addresses
            interface.addresses = []
            identity.interfaces = [interface]
        }
    }

    private static var interface: InterfaceConfiguration {
        var interface = InterfaceConfiguration()
        interface.name = "eth0"
        interface.mac = [0x0a, 0, 0, 0, 1, 0]
        interface.addresses = ["192.0.2.2/24", "2001:db8::2/64"]
        return interface
    }

    private static let name = ".hull-rehearsal"

    /// An ELF program that writes an empty line and ends (x86-64).
    private static let smallestProgram: [UInt8] = {
        func bytes<T: FixedWidthInteger>(_ number: T) -> [UInt8] { withUnsafeBytes(of: number.littleEndian, Array.init) }
        let base: UInt64 = 0x40_0000
        // mov $1,%eax; mov $1,%edi; lea newline(%rip),%rsi; mov $1,%edx; syscall; mov $231,%eax; xor %edi,%edi; syscall; "\n"
        let code: [UInt8] =
            [0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x8d, 0x35, 16, 0, 0, 0, 0xba, 1, 0, 0, 0, 0x0f, 0x05]
            + [0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 10]
        let header: [UInt8] =
            [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
            + bytes(UInt16(2)) + bytes(UInt16(62)) + bytes(UInt32(1)) + bytes(base + 120) + bytes(UInt64(64)) + bytes(UInt64(0))
            + bytes(UInt32(0)) + bytes(UInt16(64)) + bytes(UInt16(56)) + bytes(UInt16(1)) + [UInt8](repeating: 0, count: 6)
        let size = UInt64(120 + code.count)
        let segment =
            bytes(UInt32(1)) + bytes(UInt32(5)) + bytes(UInt64(0)) + bytes(base) + bytes(base) + bytes(size) + bytes(size)
            + bytes(UInt64(4096))
        return header + segment + code
    }()
}
