import CLinux
import Glibc
import LinuxSystem

/// A container's writable disk: a sparse file with an ext4 in it, for the guest's upper layer.
///
/// The ext4 has a journal, of 16 MiB: a killed VMM leaves a disk that mounts again. All that a first mount would do in the
/// background is done: a new file reads as zeros, so the inode tables and the journal need no writing, and an idle guest writes nothing.
public enum WritableDisk {
    /// The smallest: below it the journal leaves no room.
    public static let smallest: UInt64 = 64 << 20
    private static let version = "1"

    /// Makes the disk at `path`, which must not exist, of `sizeBytes` (rounded up to MiB) as the guest sees it. `templates` is a
    /// folder for formatted disks that are copied: the first of a size takes mkfs.ext4's time, the others about a millisecond.
    public static func make(_ path: String, sizeBytes: UInt64, templates: String) async throws {
        let size = try rounded(sizeBytes)
        let template = "\(templates)/ext4-\(version)-\(size >> 20)M.img"
        do {
            if !exists(template) { try await format(template, size: size, in: templates) }
            try copySparse(from: template, to: path)
        } catch let error as SystemError where error.code == ENOSPC || error.code == EDQUOT {
            throw StorageError(.diskFull, "no room for the writable disk \(path): free some on its file system")
        }
    }

    /// Puts a copy of `prepared` in the place of the disk at `path`, whole or not at all.
    public static func replace(_ path: String, with prepared: String) throws {
        let beside = "\(path).new"
        unlink(beside)  // of a killed one
        do {
            try copySparse(from: prepared, to: beside)
            try checked("rename", path) { rename(beside, path) }
        } catch let error as SystemError where error.code == ENOSPC || error.code == EDQUOT {
            unlink(beside)
            throw StorageError(.diskFull, "no room for the writable disk \(path): free some on its file system")
        }
    }

    /// Makes the disk and its filesystem larger, and repairs it on the way. The disk must not be in use. Growing to what it has
    /// already does nothing; it cannot shrink.
    public static func grow(_ path: String, sizeBytes: UInt64) async throws {
        let size = try rounded(sizeBytes)
        var status = stat()
        try checked("look at", path) { lstat(path, &status) }
        if UInt64(status.st_size) == size { return }
        guard UInt64(status.st_size) < size else {
            throw StorageError(.tooSmall, "the disk \(path) has \(status.st_size >> 20) MiB and cannot shrink to \(size >> 20)")
        }
        // 0: clean, 1: repaired (e2fsck(8)).
        try await run("e2fsck", ["-fp", path], accepting: [0, 1])
        try checked("set the length of", path) { truncate(path, Int(size)) }
        try await run("resize2fs", [path], accepting: [0])
    }

    private static func rounded(_ bytes: UInt64) throws -> UInt64 {
        guard bytes >= smallest, bytes <= 16 << 40 else {
            throw StorageError(.tooSmall, "a writable disk has 64 MiB to 16 TiB, not \(bytes) bytes")
        }
        return (bytes + 0xf_ffff) & ~0xf_ffff
    }

    /// Formats aside and renames: several processes may do it at once, and the last one's stays.
    private static func format(_ template: String, size: UInt64, in folder: String) async throws {
        try makeDirectories(folder)
        let beside = "\(template).new-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        do {
            let file = try openFile(beside, O_RDWR | O_CREAT | O_EXCL)
            try checked("set the length of", beside) { ftruncate(file.raw, Int(size)) }
            // packed_meta_blocks keeps what is written together, so that a copy has few pieces.
            let extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,assume_storage_prezeroed=1,packed_meta_blocks=1"
            try await run(
                "mkfs.ext4",
                [
                    "-q", "-F", "-O", "^resize_inode", "-E", extended, "-J", "size=16", "-m", "0", "-i", "16384", "-L", "hull",
                    beside,
                ],
                accepting: [0])
            try checked("rename", beside) { rename(beside, template) }
        } catch {
            unlink(beside)
            throw error
        }
    }

    private static func run(_ name: String, _ arguments: [String], accepting codes: Set<Int32>) async throws {
        guard let program = HostProgram.path(name) else {
            throw StorageError(.missingTool, "\(name) is missing: install the package e2fsprogs")
        }
        let output = try await Spawn(program, arguments).run()
        guard case .code(let code) = output.status, codes.contains(code) else {
            if output.complaint.contains("No space left") { throw SystemError(name, arguments.last ?? "", code: ENOSPC) }
            throw StorageError(.failed, "\(name) \(arguments.last ?? ""): \(output.complaint)")
        }
    }
}
