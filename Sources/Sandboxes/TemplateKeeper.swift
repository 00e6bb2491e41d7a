import AgentClient
import AgentProtocol
import CLinux
import FoundationEssentials
import Glibc
public import LinuxSystem
public import Machines
import Netlink
import Storage

/// Keeps one template awake: a machine of it, restored, in which all has been done once that the start of a container does, so that the
/// hypervisor has translated the code for it, and which then stands still and makes copies of itself. Runs in a process that has a mount and
/// a network namespace of its own, and not a pid namespace; its VMM ends with it, whatever ends it.
@Loop
public struct TemplateKeeper {
    private let roots: Roots
    private let drivers: [String: @Sendable () -> any Hypervisor]
    private static let deadline = Duration.seconds(120)

    /// By one of `drivers`, named as `--hypervisor` has them.
    public nonisolated init(roots: Roots, drivers: [String: @Sendable () -> any Hypervisor]) {
        self.roots = roots
        self.drivers = drivers
    }

    /// Keeps the template `key` awake, if somebody wants that and nobody does it yet, until nobody has used it for a while or it is removed.
    public func keep(_ key: String) async throws {
        let awake = roots.awake
        guard let wish = awake.take(key), case .ready(let template) = roots.templates.find(key) else { return }
        let recipe = try JSONDecoder().decode(TemplateRecipe.self, from: Data(wish))
        guard let waking = drivers[recipe.hypervisor]?().templating?.waking, let (files, lock) = try awake.begin(key) else {
            return
        }
        defer {
            // What cannot be removed now the next verb takes back.
            try? removeTree(files.folder)
            withExtendedLifetime(lock) {}
        }
        // Any tree will do for an image.
        guard let tree = recipe.disks.first(where: { $0.name == "modules" })?.fixedPath else { return }
        for (name, size) in recipe.standIns {
            try copySparse(from: tree, to: "\(files.folder)/\(name)")
            try checked("set the length of", name) { truncate("\(files.folder)/\(name)", Int(size)) }
        }
        for (name, _) in recipe.freshDisks { try WritableDisk.replace(files.disk(name), with: template.disk(name)) }
        let taps = try recipe.mtus.indices.map { try Tap.open("hull-awake\($0)") }
        // As long as a container's, because a copy writes its own over it where the host's tools look.
        let id = "awake-" + key + String(repeating: "-", count: max(0, 58 - key.utf8.count))
        let spec = recipe.spec(in: files.folder, id: id, taps: taps, confinement: Confinement(uidBase: TemplateBuilder.uidBase))
        Fault.point("awake:begun")
        try await waking.keepAwake(
            spec, template.snapshot, at: files.place, in: MachineDirectory(files.machine),
            rehearse: { try await Self.rehearse($0, recipe) },
            until: { machine in
                _ = try openFile(files.ready, O_WRONLY | O_CREAT | O_EXCL)
                Fault.point("awake:ready")
                let watching = Task { @Loop in try await wait(key, template, files) }
                let ending = Task { @Loop in
                    _ = await machine.wait()
                    watching.cancel()
                }
                defer { ending.cancel() }
                do { try await watching.value } catch is CancellationError {}
            })
    }

    /// Until it has not been used for a while, or the template is gone.
    private func wait(_ key: String, _ template: TemplateStore.Template, _ files: AwakeTemplates.Files) async throws {
        let watch = try FolderWatch(roots.templates.path)
        while case .ready(let there) = roots.templates.find(key), there.manifest.memory == template.manifest.memory {
            var used = stat()
            try checked("look at", files.ready) { stat(files.ready, &used) }
            let left = AwakeTemplates.idle - .seconds(time(nil) - used.st_mtim.tv_sec)
            if left <= .zero { break }
            try await watch.next(atMost: min(left, .seconds(60)))
        }
        unlink(files.ready)
        // Who has just found it makes its copy.
        try await sleep(for: .seconds(1))
    }

    /// A container's life but for its disks: the machine is left as the template was, prepared for its first container.
    private static func rehearse(_ machine: any VirtualMachine, _ recipe: TemplateRecipe) async throws {
        let agent = AgentConnection(stream: try await machine.connect())
        let planner = Planner(try rehearsal(recipe))
        try await withDeadline(deadline, awaiting: "the guest's rehearsal") {
            try await agent.hello()
            var sandbox = planner.sandbox(
                machine.guest, endpoint: nil, entropy: Sandbox.entropy(), now: Timestamp.now.nanoseconds)
            sandbox.modules = nil
            try await agent.configure(sandbox, followsClock: false)
            var container = try planner.container(machine.guest, mounts: [], endpoint: nil)
            container.root.isRehearsal = true
            container.files.append(FileConfiguration(path: program, content: Self.smallestProgram, mode: 0o755))
            try await agent.createContainer(container)
            let process = try await agent.start(
                try planner.process(try rehearsal(recipe).process, number: 1 << 40, isExec: false, streams: Streams()))
            while await process.readOutput(.stdout) != nil {}
            _ = try await process.wait()
            try await agent.removeContainer(container.id)
            var configuration = SandboxConfiguration()
            configuration.identity.put = recipe.put
            configuration.prepares = true
            try await agent.configure(configuration, followsClock: false)
            _ = try await agent.quiesce()
        }
        agent.close()
    }

    private static let program = "/.hull-rehearsal"

    private static func rehearsal(_ recipe: TemplateRecipe) throws -> ContainerRecord {
        var request = RunRequest()
        request.command = [program]
        return try request.record(
            id: String(repeating: "0", count: 64), root: .image(reference: "", id: "", file: ""), image: nil, now: 0)
    }

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
