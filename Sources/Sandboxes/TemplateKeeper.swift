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
            let log = try openFile("\(roots.templates.path)/awake.log", O_WRONLY | O_CREAT | O_APPEND)
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
        // What it takes is not for whoever had it woken to be charged with. Where there can be no cgroup, it is.
        try? files.cgroup.make()
        try? files.cgroup.enter()  // as above
        defer {
            awake.end(key, files)
            withExtendedLifetime(lock) {}
        }
        var isReady = false
        do {
            try await keep(key, template, recipe, waking, files) { isReady = true }
        } catch {
            // One that was of use may be so again, and one whose template went was no failure.
            if !isReady, isThere(template, key) { try awake.refuse(key, "\(error)") }
            throw error
        }
    }

    private func keep(
        _ key: String, _ template: TemplateStore.Template, _ recipe: TemplateRecipe, _ waking: any Waking,
        _ files: AwakeTemplates.Files, ready: @Loop () -> Void
    ) async throws {
        for (name, _) in recipe.freshDisks { try WritableDisk.replace(files.disk(name), with: template.disk(name)) }
        let taps: [NIC.HostEnd] = try recipe.mtus.indices.map { .tap(try Tap.open("hull-awake\($0)")) }
        // As long as a container's, because a copy writes its own over it where the host's tools look.
        let id = "awake-" + key + String(repeating: "-", count: max(0, 58 - key.utf8.count))
        var spec = recipe.spec(in: files.folder, id: id, nics: taps, confinement: Confinement(uidBase: TemplateBuilder.uidBase))
        let rehearsal = try await Rehearsal(recipe, in: files.folder)
        spec.share?.entries = rehearsal.entries
        Fault.point("awake:begun")
        try await waking.keepAwake(
            spec, template.snapshot, at: files.place, in: MachineDirectory(files.machine),
            rehearse: { machine in
                try await withDeadline(Self.deadline, awaiting: "the guest's rehearsal") { try await rehearsal.run(machine) }
            },
            until: { machine in
                _ = try openFile(files.ready, O_WRONLY | O_CREAT | O_EXCL)
                ready()
                Fault.point("awake:ready")
                let watching = Task { @Loop in try await wait(key, template, files) }
                let ending = Task { @Loop in
                    _ = await machine.wait()
                    watching.cancel()
                }
                defer { ending.cancel() }
                do { try await watching.value } catch is CancellationError {}
                try roots.awake.setAside(key, files)
            })
    }

    /// Whether the template is still the one that it was.
    private func isThere(_ template: TemplateStore.Template, _ key: String) -> Bool {
        if case .ready(let there) = roots.templates.find(key) { return there.manifest.memory == template.manifest.memory }
        return false
    }

    /// Until it has not been used for a while, or the template is gone.
    private func wait(_ key: String, _ template: TemplateStore.Template, _ files: AwakeTemplates.Files) async throws {
        let watch = try FolderWatch(roots.templates.path)
        // Not for ever: what copies have in common is to be another's some day.
        let end = ContinuousClock.now + .seconds(3600)
        while ContinuousClock.now < end, isThere(template, key) {
            let unused = Timestamp.now.nanoseconds - (try FileIdentity(files.ready).modified)
            let left = AwakeTemplates.idle - .nanoseconds(unused)
            if left <= .zero { break }
            try await watch.next(atMost: min(left, .seconds(60)))
        }
    }
}
