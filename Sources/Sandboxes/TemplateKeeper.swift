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

    /// Starts a keeper for each template that should be awake and is not, as `own` makes processes of Hull's own from words and a place for
    /// complaints. Nobody waits for it, and nothing depends on it.
    public static func startWanted(_ roots: Roots, _ own: ([String], any DescriptorSource) throws -> Spawn) throws {
        for key in try roots.awake.wanted() {
            let log = try openFile("\(roots.templates.path)/awake.log", O_WRONLY | O_CREAT | O_TRUNC)
            var how = try own(["template-keeper", key], SharedDescriptor(log))
            how.namespaces = CLONE_NEWNS | CLONE_NEWNET
            _ = try how.spawn()
        }
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
            awake.end(key, files)
            withExtendedLifetime(lock) {}
        }
        // Any tree will do for an image.
        guard let tree = recipe.disks.first(where: { $0.name == "modules" })?.fixedPath else { return }
        for (name, size) in recipe.standIns {
            try copySparse(from: tree, to: "\(files.folder)/\(name)")
            try checked("set the length of", name) { truncate("\(files.folder)/\(name)", Int(size)) }
        }
        for (name, _) in recipe.freshDisks { try WritableDisk.replace(files.disk(name), with: template.disk(name)) }
        let taps: [NIC.HostEnd] = try recipe.mtus.indices.map { .tap(try Tap.open("hull-awake\($0)")) }
        // As long as a container's, because a copy writes its own over it where the host's tools look.
        let id = "awake-" + key + String(repeating: "-", count: max(0, 58 - key.utf8.count))
        var spec = recipe.spec(in: files.folder, id: id, nics: taps, confinement: Confinement(uidBase: TemplateBuilder.uidBase))
        let rehearsal = try Rehearsal(recipe, in: "\(files.folder)/root")
        spec.share?.entries = rehearsal.entries
        Fault.point("awake:begun")
        try await waking.keepAwake(
            spec, template.snapshot, at: files.place, in: MachineDirectory(files.machine),
            rehearse: { machine in
                try await withDeadline(Self.deadline, awaiting: "the guest's rehearsal") { try await rehearsal.run(machine) }
            },
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
                awake.setAside(key)
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
    }
}
