import CLinux
import Glibc

/// mount(2).
public func mountFilesystem(
    _ source: String, _ target: String, type: String? = nil, flags: UInt = 0, data: String? = nil
) throws(SystemError) {
    try checked("mount \(source) on", target) { mount(source, target, type, flags, data) }
}

/// umount2(2). What is not mounted is no error.
public func unmountFilesystem(_ target: String, flags: Int32 = 2 /* MNT_DETACH */)
    throws(SystemError)
{
    if umount2(target, flags) != 0 && errno != EINVAL && errno != ENOENT {
        throw SystemError("unmount", target)
    }
}

/// A copy of the mount at a path, not yet attached anywhere: open_tree(2), mount_setattr(2), move_mount(2).
public struct DetachedMount: ~Copyable {
    private let tree: OwnedDescriptor

    /// Copies the mount at `path`, with all below it when `recursive`.
    public init(of path: String, recursive: Bool) throws(SystemError) {
        let flags: UInt32 =
            1 /* OPEN_TREE_CLONE */ | UInt32(bitPattern: O_CLOEXEC)
            | (recursive ? 0x8000 /* AT_RECURSIVE */ : 0)
        tree = OwnedDescriptor(
            owning: try checked("bind", path) { hull_open_tree(AT_FDCWD, path, flags) })
    }

    /// Takes a copy that somebody else made, e.g. in a mount namespace that sees more.
    public init(_ copy: SharedDescriptor) throws(SystemError) { tree = try copy.duplicate() }

    /// Gives the copy away as a descriptor.
    public consuming func release() -> SharedDescriptor { SharedDescriptor(tree) }

    /// Copies the mount at an open place, alone.
    public init(at place: SharedDescriptor) throws(SystemError) {
        let flags: UInt32 = 1 /* OPEN_TREE_CLONE */ | UInt32(bitPattern: O_CLOEXEC) | 0x1000 /* AT_EMPTY_PATH */
        tree = OwnedDescriptor(owning: try checked("bind a mount") { hull_open_tree(place.raw, "", flags) })
    }

    /// Sets attributes on the whole copy: MOUNT_ATTR_* to set, and a user namespace to map owners by.
    public borrowing func set(
        readOnly: Bool = false, noSuid: Bool = false, noDevices: Bool = false, noExec: Bool = false,
        owners: SharedDescriptor? = nil, isPrivate: Bool = true
    ) throws(SystemError) {
        // Nothing that is mounted there later comes along, and nothing mounted here goes to others.
        var attributes: UInt64 = 0
        if readOnly { attributes |= 1 }
        if noSuid { attributes |= 2 }
        if noDevices { attributes |= 4 }
        if noExec { attributes |= 8 }
        if owners != nil { attributes |= 0x0010_0000 }
        try checked("set the attributes of a mount") {
            hull_mount_setattr(
                tree.raw, "", 0x1000 /* AT_EMPTY_PATH */ | 0x8000 /* AT_RECURSIVE */, attributes, 0,
                isPrivate ? UInt64(MS_PRIVATE) : 0,
                owners?.raw ?? -1)
        }
    }

    /// A second descriptor of the copy's own root, good as a place (O_PATH) before and after it is attached.
    public borrowing func place() throws(SystemError) -> SharedDescriptor { SharedDescriptor(try tree.duplicate()) }

    /// Attaches the copy at `path`, which is made, in the mount namespace of another process.
    public consuming func attach(at path: String, inside process: ChildProcess, isFile: Bool) throws(SystemError) {
        let namespace = try openFile("/proc/\(process.identity?.pid ?? process.pid)/ns/mnt", O_RDONLY)
        let failure = hull_mount_inside(namespace.raw, tree.raw, path, isFile ? 1 : 0)
        if failure != 0 { throw SystemError("show \(path) in process", "\(process.pid)", code: failure) }
    }

    /// Attaches the copy at `path`, a folder for a folder, a file for a file.
    public consuming func attach(at path: String) throws(SystemError) {
        try checked("mount on", path) { hull_move_mount(tree.raw, AT_FDCWD, path, 0) }
    }

    /// Attaches the copy at an open place.
    public consuming func attach(on place: SharedDescriptor) throws(SystemError) {
        try checked("mount on a folder") { hull_move_mount(tree.raw, place.raw, "", 0x40 /* MOVE_MOUNT_T_EMPTY_PATH */) }
    }
}

/// Opens, as a place only, what is at `path` below `folder`, following no link; nil when it is not there.
public func openPlace(_ path: String, below folder: SharedDescriptor) throws(SystemError) -> SharedDescriptor? {
    let raw = hull_openat2(folder.raw, path, UInt64(O_PATH | O_CLOEXEC), 0, 0x04 | 0x08)  // RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH
    if raw < 0, errno == ENOENT || errno == ENOTDIR || errno == ELOOP { return nil }
    return SharedDescriptor(owning: try checked("open", path) { raw })
}

/// A new user namespace that maps `count` ids from 0 on to `base` on. For ID-mapped mounts and confined servers.
public func makeUserNamespace(base: UInt32, count: UInt32) throws(SystemError) -> SharedDescriptor {
    let map = "0 \(base) \(count)\n"
    return try makeUserNamespace(users: map, groups: map)
}

/// A new user namespace in which every id that our own has is itself.
public func makeEqualUserNamespace() throws(SystemError) -> SharedDescriptor {
    func map(_ file: String) -> String {
        UserNamespace.ranges(file).map { "\($0.inside) \($0.inside) \($0.count)\n" }.joined()
    }
    return try makeUserNamespace(users: map("uid_map"), groups: map("gid_map"))
}

private func makeUserNamespace(users: String, groups: String) throws(SystemError) -> SharedDescriptor {
    let descriptor = hull_user_namespace(users, groups)
    if descriptor < 0 { throw SystemError("make a user namespace", code: -descriptor) }
    return SharedDescriptor(owning: descriptor)
}

/// Detaches mounts inside another process's mount namespace.
public func unmountInside(_ process: ChildProcess, _ paths: [String]) throws(SystemError) {
    let namespace = try openFile("/proc/\(process.identity?.pid ?? process.pid)/ns/mnt", O_RDONLY)
    let strings = paths.map { strdup($0) }
    defer { for string in strings { free(string) } }
    let failure = strings.map { UnsafePointer($0) }.withUnsafeBufferPointer {
        hull_unmount_inside(namespace.raw, $0.baseAddress, $0.count)
    }
    if failure != 0 { throw SystemError("empty the root of process \(process.pid)", code: failure) }
}
