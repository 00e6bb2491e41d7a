import ArgumentParser
import Glibc
import HostNetwork
import Images
import OCISpec
import LinuxSystem
import Sandboxes
import Storage

/// What `run` and `create` do before anything starts: image, record, disk.
struct Creation: Sendable {
    var options: ContainerOptions
    var arguments: [String]

    /// Makes the container's record and its disk; pulls the image where it must. Where `mayClaim` allows it and a machine waits for such a
    /// container, it gets that, and the connection over which it is started.
    @Loop func make(in store: ContainerStore, mayClaim: Bool = false) async throws -> (Container, MonitorClient?) {
        var words = arguments[...]
        if words.first == "--" { words = words.dropFirst() }
        guard let name = words.popFirst() else { throw ValidationError("no image given") }
        if name.hasPrefix("-") {
            throw ValidationError(
                "unknown flag \(name): hull run --help lists all; flags of the command come after the image"
            )
        }
        let request = try options.request(command: Array(words))
        guard let policy = PullPolicy(rawValue: options.container.pull) else {
            throw SandboxError("unknown --pull \"\(options.container.pull)\": always, missing and never are known")
        }
        if let cidfile = options.container.cidfile, exists(cidfile) {
            throw SandboxError("the cidfile \(cidfile) exists already: remove it, or name another")
        }
        if let taken = request.name, try store.list().contains(where: { $0.name == taken }) {
            throw SandboxError(
                "the name \"\(taken)\" is in use by another container: remove that one, or choose another name"
            )
        }
        try store.roots.prepare()
        let source = try ImageSource(name, relativeTo: Globals.absolute("."))
        let id = ContainerStore.newIdentifier()
        let display = PullDisplay(quiet: options.container.quiet)
        let (record, held) = try await Self.resolve(source, as: name, id: id, request, policy, store, display)
        let claimed = mayClaim ? try await PoolStore(store).claim(record) : nil
        let container: Container
        if let claimed { container = claimed.0 } else { container = try await Self.add(record, to: store) }
        withExtendedLifetime(held) {}
        if let cidfile = options.container.cidfile {
            try writeFile(cidfile, Array(container.id.utf8), flags: O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
        }
        return (container, claimed?.1)
    }

    /// Adds the container with a disk of its own, where its root is an image.
    @Loop static func add(_ record: ContainerRecord, to store: ContainerStore) async throws -> Container {
        let isImage = if case .image = record.root { true } else { false }
        let templates = "\(store.roots.cache)/disks"
        return try await store.add(record) { folder in
            if isImage { try await WritableDisk.make("\(folder)/disk.img", sizeBytes: Planner.diskSize, templates: templates) }
        }
    }

    /// The record, and a hold on the image's content until the record is written.
    @Loop static func resolve(
        _ source: ImageSource, as name: String, id: String, _ request: RunRequest, _ policy: PullPolicy, _ store: ContainerStore,
        _ display: PullDisplay
    ) async throws -> (ContainerRecord, FileLock?) {
        let now = Timestamp.now.nanoseconds
        if case .rootfs(let directory) = source {
            var status = stat()
            guard stat(directory, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
                throw SandboxError("the root filesystem \(directory) is no folder: give the path of one")
            }
            return (try request.record(id: id, root: .folder(directory), image: nil, now: now), nil)
        }
        let images = try store.imageStore()
        let held = try images.hold()
        let image = try await images.resolve(source, pull: policy, progress: display.callback)
        let root = ContainerRecord.Root.image(reference: name, id: image.id.description, file: image.rootPath)
        return (try request.record(id: id, root: root, image: image.config, now: now), held)
    }

    /// Takes back a container that could not start, if it was to go with its end.
    @Loop func discard(_ container: Container, in store: ContainerStore) async throws {
        guard container.record.autoRemove else { return }
        guard let now = try store.load(container.id), !now.state.isLive else { return }
        try await Removal(store).remove(now)
    }
}
