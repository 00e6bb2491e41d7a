import CLinux
import Glibc

/// The root that is being put together. Every path is walked by openat2(2) below the root's descriptor, with links resolved as if
/// it were `/` and no magic ones; the last part of a path is never followed.
struct Tree {
    /// A descriptor of a folder (O_PATH), closed with its last owner.
    final class Folder {
        let raw: Int32
        let inode: UInt64
        init(_ raw: Int32, inode: UInt64) {
            self.raw = raw
            self.inode = inode
        }
        deinit { close(raw) }
    }
    struct Place: Hashable {
        var folder: UInt64
        var name: [UInt8]
    }
    private struct Touched {
        var path: [UInt8]
        var time: timespec
    }

    static let deepest = 250
    let root: Folder
    private var cached: (path: [UInt8], folder: Folder)?
    /// What this layer made: its own whiteouts hide none of it.
    private var fresh: Set<Place> = []
    /// Folders whose times have to be set when the layer is done, by inode.
    private var touched: [UInt64: Touched] = [:]
    private var depths: [UInt64: Int] = [:]

    init(root path: String) throws(UnpackFailure) {
        let raw = Glibc.open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)
        if raw < 0 { throw .system("open the root", []) }
        let inode = UInt64(try Self.look(raw, []).st_ino)
        root = Folder(raw, inode: inode)
        depths[inode] = 0
        // Made a moment ago, which is nobody's business: a layer's entry says otherwise, or it is the epoch.
        touched[inode] = Touched(path: [], time: timespec())
        if chmod(path, 0o755) != 0 { throw .system("set the mode of the root", []) }
    }

    // MARK: Folders

    private static func look(_ raw: Int32, _ name: [UInt8]) throws(UnpackFailure) -> stat {
        var status = stat()
        let failed = name.withCString { fstatat(raw, $0, &status, AT_SYMLINK_NOFOLLOW | 0x1000 /* AT_EMPTY_PATH */) }
        if failed != 0 { throw .system("look at", name) }
        return status
    }

    private func open(_ path: [UInt8], _ flags: Int32) -> Int32 {
        let resolve: UInt64 = 0x10 /* RESOLVE_IN_ROOT */ | 0x02 /* RESOLVE_NO_MAGICLINKS */ | 0x01 /* RESOLVE_NO_XDEV */
        return (path.isEmpty ? [0x2e] : path).withCString {
            hull_openat2(root.raw, $0, UInt64(UInt32(bitPattern: flags | O_CLOEXEC)), 0, resolve)
        }
    }

    /// The folder at `path`; its missing parts are made when `making`, else nil stands for them.
    mutating func folder(_ path: [UInt8], making: Bool) throws(UnpackFailure) -> Folder? {
        if path.isEmpty { return touch(root, path) }
        if let cached, cached.path == path { return cached.folder }
        let raw = open(path, O_PATH | O_DIRECTORY)
        if raw >= 0 {
            let found = Folder(raw, inode: UInt64(try Self.look(raw, []).st_ino))
            cached = (path, found)
            return touch(found, path)
        }
        let code = errno
        switch code {
        case ENOENT where making:
            let cut = path.lastIndex(of: UInt8(ascii: "/"))
            let above = cut.map { Array(path[..<$0]) } ?? []
            let name = cut.map { Array(path[($0 + 1)...]) } ?? path
            let parent = try folder(above, making: true)!
            try makeFolder(parent, name, whole: path)
            return try folder(path, making: false)
        case ENOENT: return nil
        case ENOTDIR: throw UnpackFailure(.hostile, "\(quoted(path)) is a file, and an entry says it is a folder")
        case ELOOP: throw UnpackFailure(.hostile, "\(quoted(path)) is a loop of links")
        default: throw .system("open the folder", path, code)
        }
    }

    private mutating func makeFolder(_ parent: Folder, _ name: [UInt8], whole: [UInt8]) throws(UnpackFailure) {
        if name.withCString({ mkdirat(parent.raw, $0, 0o755) }) != 0 {
            if errno == EEXIST {
                throw UnpackFailure(.hostile, "\(quoted(whole)) is a link that leads nowhere, and an entry says it is a folder")
            }
            throw .system("make the folder", whole)
        }
        let inode = UInt64(try Self.look(parent.raw, name).st_ino)
        let depth = (depths[parent.inode] ?? 0) + 1
        if depth > Self.deepest {
            throw UnpackFailure(.tooBig, "\(quoted(whole)) is more than \(Self.deepest) folders deep")
        }
        depths[inode] = depth
        touched[inode] = Touched(path: whole, time: timespec())
    }

    /// Remembers the time that a folder had before this layer put something into it.
    private mutating func touch(_ folder: Folder, _ path: [UInt8]) -> Folder {
        if touched[folder.inode] == nil, let status = try? Self.look(folder.raw, []) {  // it is open: cannot fail
            touched[folder.inode] = Touched(path: path, time: status.st_mtim)
        }
        return folder
    }

    // MARK: Entries

    /// Makes the place free for an entry, and notes that it is this layer's.
    mutating func clear(_ folder: Folder, _ path: EntryPath) throws(UnpackFailure) {
        if path.name.withCString({ unlinkat(folder.raw, $0, 0) }) == 0 {
            cached = nil
        } else if errno == EISDIR || errno == EPERM {
            _ = try remove(folder, path.name, all: true)
            cached = nil
        } else if errno != ENOENT {
            throw .system("replace", path.whole)
        }
        fresh.insert(Place(folder: folder.inode, name: path.name))
    }

    /// A folder entry: a folder that is there stays with what is in it. Gives a descriptor of it, which the caller closes.
    mutating func directory(_ folder: Folder, _ path: EntryPath, time: timespec) throws(UnpackFailure) -> Int32 {
        var status = stat()
        let isThere = path.name.withCString { fstatat(folder.raw, $0, &status, AT_SYMLINK_NOFOLLOW) } == 0
        if isThere, status.st_mode & S_IFMT == S_IFDIR {
            fresh.insert(Place(folder: folder.inode, name: path.name))
        } else {
            try clear(folder, path)
            try makeFolder(folder, path.name, whole: path.whole)
        }
        let raw = path.name.withCString { openat(folder.raw, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) }
        if raw < 0 { throw .system("open the folder", path.whole) }
        touched[UInt64(try Self.look(raw, []).st_ino)] = Touched(path: path.whole, time: time)
        return raw
    }

    /// The root's own entry.
    mutating func rootDirectory(time: timespec) throws(UnpackFailure) -> Int32 {
        let raw = open([], O_RDONLY | O_DIRECTORY)
        if raw < 0 { throw .system("open the root", []) }
        touched[root.inode] = Touched(path: [], time: time)
        return raw
    }

    mutating func hardLink(_ folder: Folder, _ path: EntryPath, to target: EntryPath) throws(UnpackFailure) {
        func refuse(_ why: String) -> UnpackFailure {
            UnpackFailure(.hostile, "the hard link \(quoted(path.whole)) leads to \(quoted(target.whole)), \(why)")
        }
        guard !target.isRoot, let origin = try self.folder(target.parent, making: false) else {
            throw refuse("which is not in the image")
        }
        var there = stat()
        guard target.name.withCString({ fstatat(origin.raw, $0, &there, AT_SYMLINK_NOFOLLOW) }) == 0 else {
            throw refuse("which is not in the image")
        }
        if there.st_mode & S_IFMT == S_IFDIR { throw refuse("which is a folder") }
        var here = stat()
        if path.name.withCString({ fstatat(folder.raw, $0, &here, AT_SYMLINK_NOFOLLOW) }) == 0, here.st_ino == there.st_ino {
            fresh.insert(Place(folder: folder.inode, name: path.name))
            return
        }
        try clear(folder, path)
        let failed = target.name.withCString { from in path.name.withCString { linkat(origin.raw, from, folder.raw, $0, 0) } }
        if failed != 0 { throw .system("make the hard link", path.whole) }
    }

    // MARK: Whiteouts

    mutating func whiteout(_ folder: Folder, _ name: [UInt8]) throws(UnpackFailure) {
        cached = nil
        _ = try remove(folder, name, all: false)
    }

    mutating func opaque(_ folder: Folder) throws(UnpackFailure) {
        cached = nil
        for name in try names(folder) { _ = try remove(folder, name, all: false) }
    }

    private func names(_ folder: Folder) throws(UnpackFailure) -> [[UInt8]] {
        let raw = openat(folder.raw, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0, let stream = fdopendir(raw) else { throw .system("list a folder", []) }
        defer { closedir(stream) }
        var all: [[UInt8]] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != [0x2e] && name != [0x2e, 0x2e] { all.append(name) }
        }
        return all
    }

    /// Removes `name` and all below it; what this layer made stays unless `all`. Whether it is gone. No deeper than `deepest`.
    private mutating func remove(_ folder: Folder, _ name: [UInt8], all: Bool) throws(UnpackFailure) -> Bool {
        let place = Place(folder: folder.inode, name: name)
        let raw = name.withCString { openat(folder.raw, $0, O_PATH | O_NOFOLLOW | O_CLOEXEC) }
        if raw < 0 {
            if errno == ENOENT { return true }
            throw .system("remove", name)
        }
        let status = try Self.look(raw, [])
        let found = Folder(raw, inode: UInt64(status.st_ino))
        guard status.st_mode & S_IFMT == S_IFDIR else {
            if !all && fresh.contains(place) { return false }
            if name.withCString({ unlinkat(folder.raw, $0, 0) }) != 0 { throw .system("remove", name) }
            fresh.remove(place)
            return true
        }
        var isEmpty = true
        for child in try names(found) where try !remove(found, child, all: all) { isEmpty = false }
        if !isEmpty || (!all && fresh.contains(place)) { return false }
        if name.withCString({ unlinkat(folder.raw, $0, AT_REMOVEDIR) }) != 0 { throw .system("remove the folder", name) }
        fresh.remove(place)
        touched[found.inode] = nil
        return true
    }

    /// Ends a layer: folders get the times they should have.
    mutating func finishLayer() throws(UnpackFailure) {
        cached = nil
        for (inode, folder) in touched {
            let raw = open(folder.path, O_RDONLY | O_DIRECTORY)
            if raw < 0 { continue }  // replaced meanwhile by something that is no folder
            defer { close(raw) }
            guard try UInt64(Self.look(raw, []).st_ino) == inode else { continue }
            let times = [folder.time, folder.time]
            if futimens(raw, times) != 0 { throw .system("set the time of", folder.path) }
        }
        touched = [:]
        fresh = []
    }
}
