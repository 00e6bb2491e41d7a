import LinuxSystem
import Sandboxes

/// `checkpoint`: a running container's machine, saved to a folder of the engine's. The flags are runc's; what says how CRIU treats the kernel's
/// objects is taken and means nothing here: a machine is saved with all that it has.
enum CheckpointVerb {
    /// What a folder is called where none is named.
    static let folder = "checkpoint"

    @Loop static func perform(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let arguments = try Arguments(
            words,
            valued: [
                "image-path", "work-path", "parent-path", "status-fd", "page-server", "manage-cgroups-mode", "empty-ns",
            ],
            plain: [
                "leave-running", "tcp-established", "tcp-skip-in-flight", "tcp-close", "ext-unix-sk", "shell-job", "lazy-pages",
                "file-locks", "pre-dump", "auto-dedup", "link-remap",
            ])
        let id = try arguments.id("checkpoint")
        do {
            for flag in ["pre-dump", "lazy-pages"] where arguments.has(flag) { throw unsupported(flag) }
            for flag in ["parent-path", "page-server"] where arguments[flag]?.isEmpty == false { throw unsupported(flag) }
            let container = try globals.engines.require(id)
            guard [.running, .paused].contains(container.engineStatus) else {
                throw SandboxError("container not running", exitCode: 1)
            }
            try container.roots.snapshots.collectLeftovers()
            try await EngineCheckpoint.save(
                container, to: absolute(arguments["image-path"] ?? folder), workingIn: arguments["work-path"].map(absolute),
                ends: !arguments.has("leave-running"),
                hull: Version.text)
            return 0
        } catch let error as any HullError {
            throw SandboxError("hull-runtime checkpoint failed: \(error)", exitCode: 1)
        }
    }

    static func unsupported(_ flag: String) -> SandboxError {
        SandboxError("--\(flag) is CRIU's way of saving in parts, and a machine is saved whole: leave it out", exitCode: 1)
    }
}
