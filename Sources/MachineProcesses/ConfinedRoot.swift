import CLinux
import Glibc
package import LinuxSystem

/// The root of a confined process: a small tmpfs, in which what the process must read at its start is bound, and out of which
/// that is taken again before any guest code runs. It is made in the mount namespace of the caller, who keeps a handle
/// on the tmpfs; the process has it as `/` in a namespace of its own.
///
/// Taking away works through a rule of the kernel: a folder or file that is a mount point in another mount namespace
/// only can be removed, and the mounts on it go with it (vfs_rmdir, detach_mounts).
@Loop
package final class ConfinedRoot {
    /// On the host.
    package let path: String
    /// The SELinux label of what is in the filesystems that are mounted for it; nil for what the policy says.
    private let label: String?
    private var isMounted = false
    /// Mount points of what was bound, in order, seen from the host.
    private var bound: [String] = []
    /// What was made in the tmpfs and is to go, in order.
    private var made: [String] = []

    /// Mounts the tmpfs at `path`, which is made.
    package init(at path: String, label: String? = nil) throws {
        self.path = path
        self.label = label
        try makeDirectories(path, mode: 0o755)
        try mountFilesystem(
            "hull", path, type: "tmpfs", flags: UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC),
            data: mountData("mode=0755,size=256k,nr_inodes=4096", label: label)
        )
        isMounted = true
        try mountFilesystem("none", path, flags: UInt(MS_PRIVATE))
    }

    /// Shows the host's `source` at `inside`. Folders and files that it must go through are made.
    /// - Parameter keep: it stays when the root is emptied (what a share server serves).
    package func bind(
        _ source: String, at inside: String, readOnly: Bool = true, devices: Bool = false, executable: Bool = true,
        recursive: Bool = false, owners: SharedDescriptor? = nil, keep: Bool = false,
        followsHost: Bool = false
    ) throws {
        var status = stat()
        try checked("look at", source) { stat(source, &status) }
        let isFolder = status.st_mode & S_IFMT == S_IFDIR
        let tree = try DetachedMount(of: source, recursive: recursive)
        try tree.set(
            readOnly: readOnly, noSuid: true, noDevices: !devices, noExec: !executable, owners: owners, isPrivate: !followsHost)
        let point = try makePoint(inside, folder: isFolder, keep: keep)
        try tree.attach(at: point)
        bound.append(point)
    }

    /// Shows the mount at `path` below the host's `source` where `source` was bound at `inside`. One that went meanwhile is left out.
    package func bindBelow(_ source: String, _ path: String, at inside: String, readOnly: Bool, owners: SharedDescriptor?) throws
    {
        let place = { (folder: String) in SharedDescriptor(try openFile(folder, O_PATH | O_DIRECTORY)) }
        guard let from = try openPlace(path, below: try place(source)),
            let to = try openPlace(path, below: try place("\(self.path)\(inside)"))
        else { return }
        let tree = try DetachedMount(at: from)
        try tree.set(readOnly: readOnly, noSuid: true, noDevices: true, owners: owners)
        try tree.attach(on: to)
    }

    /// Shows a device like the host's `source` at `inside`, which belongs to `owner`: who may use the host's own node (0600 and
    /// root's in one place, a group's in another) does not matter then.
    package func bindDevice(_ source: String, at inside: String, owner: UInt32) throws {
        var status = stat()
        try checked("look at", source) { stat(source, &status) }
        let folder = "\(path)-device"
        try makeDirectories(folder)
        defer { rmdir(folder) }
        try mountFilesystem(
            "hull", folder, type: "tmpfs", flags: UInt(MS_NOSUID | MS_NOEXEC),
            data: mountData("mode=0700,size=4k,nr_inodes=8", label: label))
        defer { umount2(folder, 2 /* MNT_DETACH */) }
        let node = "\(folder)/node"
        try checked("make the device", node) { mknod(node, S_IFCHR | 0o600, status.st_rdev) }
        try checked("give away", node) { chown(node, owner, owner) }
        try bind(node, at: inside, readOnly: false, devices: true)
    }

    /// Shows a new, empty file of `size` bytes in memory at `inside`; it belongs to `owner`, and goes with the last that has it open.
    /// Returns it open for writing.
    package func bindMemory(of size: UInt64, at inside: String, owner: UInt32) throws -> SharedDescriptor {
        let folder = "\(path)-memory"
        try makeDirectories(folder)
        defer { rmdir(folder) }
        try mountFilesystem(
            "hull", folder, type: "tmpfs", flags: UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC),
            data: mountData("mode=0700,size=\(size + (1 << 20)),nr_inodes=8", label: label))
        defer { umount2(folder, 2 /* MNT_DETACH */) }
        let file = SharedDescriptor(try openFile("\(folder)/memory", O_RDWR | O_CREAT | O_EXCL))
        try checked("set the length of", "the guest's memory") { ftruncate(file.raw, Int(size)) }
        try checked("give away", "the guest's memory") { fchown(file.raw, owner, owner) }
        try bind("\(folder)/memory", at: inside, readOnly: false, executable: false)
        return file
    }

    /// A /proc of the caller's pid namespace, read-only, in which the process finds no process but itself.
    package func mountOwnProcesses() throws {
        let point = try makePoint("/proc", folder: true, keep: false)
        try mountFilesystem(
            "proc", point, type: "proc", flags: UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY), data: "hidepid=invisible")
        bound.append(point)
    }

    /// The host's programs and libraries, read-only: `/usr`, and `/bin`, `/lib` and their like as the host has them.
    package func bindPrograms() throws {
        try bind("/usr", at: "/usr")
        for name in ["bin", "sbin", "lib", "lib32", "lib64"] {
            if let target = readLink("/\(name)") {
                try checked("link", "\(path)/\(name)") { symlink(target, "\(path)/\(name)") }
                made.append("\(path)/\(name)")
            } else if exists("/\(name)") {
                try bind("/\(name)", at: "/\(name)")
            }
        }
        if exists("/etc/ld.so.cache") { try bind("/etc/ld.so.cache", at: "/etc/ld.so.cache", executable: false) }
    }

    /// A folder that stays.
    package func makeFolder(_ inside: String, owner: UInt32) throws {
        let point = try makePoint(inside, folder: true, keep: true)
        try checked("give away", point) { chown(point, owner, owner) }
    }

    /// A folder that stays, into which more can be mounted later, when the rest is read-only.
    package func mountRoom(at inside: String, owner: UInt32) throws {
        let point = try makePoint(inside, folder: true, keep: true)
        try mountFilesystem(
            "hull", point, type: "tmpfs", flags: UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC),
            data: mountData("mode=0755,size=256k,nr_inodes=4096,uid=\(owner),gid=\(owner)", label: label))
        bound.append(point)
    }

    private func makePoint(_ inside: String, folder: Bool, keep: Bool) throws -> String {
        let parts = inside.split(separator: "/")
        var point = path
        for (index, part) in parts.enumerated() {
            point += "/\(part)"
            if index == parts.count - 1 && !folder {
                _ = try openFile(point, O_WRONLY | O_CREAT | O_EXCL, mode: 0o444)
            } else if mkdir(point, 0o755) != 0 {
                if errno == EEXIST { continue }
                throw SystemError("make the folder", point)
            }
            if !keep { made.append(point) }
        }
        return point
    }

    /// Gives up the caller's own view of what was bound: call it when the process has its own copy, i.e. when it was spawned.
    package func releaseBound() throws {
        for point in bound.reversed() { try unmountFilesystem(point, flags: 2 /* MNT_DETACH */) }
        bound = []
    }

    /// Takes away from the process all that was not to be kept, and makes the root read-only. After `releaseBound`.
    package func empty() throws {
        for point in made.reversed() {
            if unlink(point) != 0 && errno != ENOENT {
                try checked("empty a root of", point) { rmdir(point) }
            }
        }
        made = []
        try mountFilesystem("none", path, flags: UInt(MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC))
    }

    /// Gives up the handle. The tmpfs lives on as long as the process.
    package func remove() throws {
        try releaseBound()
        if isMounted {
            try unmountFilesystem(path)
            isMounted = false
        }
        if rmdir(path) != 0 && errno != ENOENT { throw SystemError("remove", path) }
    }
}
