import LinuxSystem
import Sandboxes

/// `restore`: a container whose machine goes on where `checkpoint` saved it; running when this returns. Its bundle has the mounts that the saved
/// one's had, from wherever they are now.
enum RestoreVerb {
    @Loop static func perform(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let arguments = try Arguments(
            words,
            valued: [
                "image-path", "work-path", "bundle", "console-socket", "pid-file", "manage-cgroups-mode", "empty-ns",
                "lsm-profile",
                "lsm-mount-context",
            ],
            plain: [
                "tcp-established", "tcp-close", "ext-unix-sk", "shell-job", "file-locks", "detach", "no-subreaper", "no-pivot",
                "auto-dedup", "lazy-pages", "link-remap", "ignore-static-ip", "ignore-static-mac",
            ],
            short: ["b": "bundle", "d": "detach"])
        let id = try arguments.id("restore")
        do {
            if arguments.has("lazy-pages") { throw CheckpointVerb.unsupported("lazy-pages") }
            let engines = globals.engines
            try engines.store.roots.snapshots.collectLeftovers()
            let folder = absolute(arguments["image-path"] ?? CheckpointVerb.folder)
            let unpacked = try EngineCheckpoint.open(folder, engines.store.roots)
            let container: Container
            let process: ChildProcess
            do { (container, process) = try await CreateVerb.make(arguments, id, globals, checkpoint: unpacked.folder) } catch {
                try unpacked.discard()
                throw error
            }
            // The machine has mapped what it needs of it.
            try unpacked.discard()
            try await LifeVerbs.poststart(container)
            if arguments.has("detach") { return 0 }
            return try await CreateVerb.foreground(process, container, engines, keeps: false)
        } catch let error as any HullError {
            throw SandboxError("hull-runtime restore failed: \(error)", exitCode: 1)
        }
    }
}
