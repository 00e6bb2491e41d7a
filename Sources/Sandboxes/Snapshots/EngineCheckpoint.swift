import CLinux
import FoundationEssentials
import Glibc
public import LinuxSystem
import OCISpec

/// A container engine's checkpoint: a folder of the engine's with one file of ours, because engines pack it up and carry it. It has
/// the machine; the root file system and the mounts are the engine's, and it sees to them.
public enum EngineCheckpoint {
    /// Ours.
    static let file = "hull.snapshot"
    /// What Podman looks for before it asks for a restore, and what it packs up. CRIU's own would have content.
    static let inventory = "inventory.img"
    static let statistics = "stats-dump"

    /// Saves a container to `folder`, which is made when it is missing; then `ends` it, or lets it go on. `workFolder` is where CRIU would
    /// have its log.
    @Loop
    public static func save(
        _ container: Container, to folder: String, workingIn workFolder: String?, ends: Bool, hull: String
    ) async throws {
        try makeDirectories(folder)
        if let workFolder { try makeDirectories(workFolder) }
        let target = "\(folder)/\(file)"
        if exists(target) { throw SandboxError("the folder \(folder) has a checkpoint already: name another", exitCode: 1) }
        // What one that was killed here has left.
        for name in try listDirectory(folder) where name.hasPrefix("\(file).new-") { try removeTree("\(folder)/\(name)") }
        let snapshots = container.roots.snapshots
        let making = try snapshots.begin()
        do {
            let saving = try await Saving(container, to: making, ends: ends, hull: hull)
            var manifest = saving.manifest
            for disk in manifest.saved.machine.disks {
                guard let path = disk.fixedPath else { continue }
                let file = SharedDescriptor(try openFile(path, O_RDONLY))
                manifest.fixed[disk.name] = SnapshotManifest.File(
                    identity: try FileIdentity(file, path), isLink: true, digest: try SnapshotArchive.digest(of: file, path))
            }
            manifest = try snapshots.seal(making, manifest, durable: false)
            let beside = "\(target).new-\(getpid())"
            do {
                let output = SharedDescriptor(try openFile(beside, O_WRONLY | O_CREAT | O_EXCL))
                try SnapshotArchive.write(.init(sealed: manifest, in: making), to: output)
                try checked("sync", target) { fsync(output.raw) }
                Fault.point("checkpoint:written")
                try checked("rename", target) { rename(beside, target) }
                Fault.point("checkpoint:there")
            } catch {
                unlink(beside)
                throw error
            }
            for name in ["\(folder)/\(inventory)", "\(workFolder ?? folder)/\(statistics)"] where !exists(name) {
                try writeFile(name, [], flags: O_WRONLY | O_CREAT)
            }
            try await saving.end()
        } catch {
            try making.discard()
            throw error
        }
        try making.discard()
    }

    /// Unpacks the checkpoint in `folder` for a monitor, and checks all of it; discard it when that has restored it.
    public static func open(_ folder: String, _ roots: Roots) throws -> SnapshotStore.Making {
        let input: SharedDescriptor
        do { input = SharedDescriptor(try openFile("\(folder)/\(file)", O_RDONLY)) } catch {
            throw SandboxError(
                "the folder \(folder) has no checkpoint of Hull's: it has no file \(file)", exitCode: 1, cause: error)
        }
        let making = try roots.snapshots.begin()
        do {
            let manifest = try SnapshotArchive.read(from: input, to: making) { manifest in
                guard manifest.container.engine != nil else {
                    throw SandboxError("this is no container engine's checkpoint: use hull snapshot import", exitCode: 1)
                }
            }
            _ = try roots.snapshots.seal(making, manifest, durable: false)
            Fault.point("checkpoint:opened")
            return making
        } catch {
            try making.discard()
            throw error
        }
    }
}

extension SavedContainer {
    /// Throws where a disk that every machine of a kernel has is not what it was when the machine was saved. They are all below `folder`.
    func checkFixed(below folder: String) throws {
        for disk in manifest.saved.machine.disks {
            guard let known = manifest.fixed[disk.name], let path = disk.fixedPath else { continue }
            guard path.hasPrefix("\(folder)/"), !path.contains("/../"), disk.readOnly else {
                throw SandboxError("the checkpoint names the file \(path), which is none of this Hull's", exitCode: 1)
            }
            do {
                if try FileIdentity(path).text == known.identity.text { continue }
                let file = SharedDescriptor(try openFile(path, O_RDONLY))
                if try SnapshotArchive.digest(of: file, path) == known.digest { continue }
            } catch let error as SystemError where error.code == ENOENT {}
            throw SandboxError(
                "the checkpoint was made with another kernel's modules than \(path): install the kernel that it was made with",
                exitCode: 1)
        }
    }
}
