import CLinux
import Glibc

/// How the program locks itself in, before it reads a byte that somebody else wrote. Images starts it in namespaces of its own
/// (mount, pid, network, ipc, uts), with no_new_privs and few capabilities; here the mounts are made, because mounts made
/// outside could be left behind. After that there is no host to see, by any path.
enum Confinement {
    // capability(7)
    private static let chown: UInt64 = 1 << 0
    private static let dacOverride: UInt64 = 1 << 1
    private static let dacReadSearch: UInt64 = 1 << 2
    private static let fowner: UInt64 = 1 << 3
    private static let fsetid: UInt64 = 1 << 4
    private static let setfcap: UInt64 = 1 << 31

    /// The working directory becomes `/`, and nothing else is there. (A directory, not a descriptor: open_tree(2) clones no mount of
    /// another mount namespace.)
    static func enterWorkingDirectory() throws(UnpackFailure) {
        let tree = try attempt("bind the folder") { hull_open_tree(AT_FDCWD, ".", 1 | UInt32(bitPattern: O_CLOEXEC)) }
        // nosuid, nodev, noexec: this process has no use for any of them.
        try attempt("protect the folder") { hull_mount_setattr(tree, "", 0x1000, 2 | 4 | 8, 0, 0, -1) }
        try attempt("make mounts private") { mount("", "/", nil, UInt(MS_REC) | UInt(MS_PRIVATE), nil) }
        try attempt("mount the folder") { hull_move_mount(tree, AT_FDCWD, "/proc", 0) }
        close(tree)
        try becomeRoot("/proc")
        try keep(chown | dacOverride | fowner | fsetid | setfcap)
    }

    /// A root with the host's programs read-only, the working directory at /output, and its folder `tree` read-only at /source.
    static func enterTools() throws(UnpackFailure) {
        try attempt("make mounts private") { mount("", "/", nil, UInt(MS_REC) | UInt(MS_PRIVATE), nil) }
        // All clones first: once the tmpfs is there, it hides what it is mounted on.
        var parts: [(tree: Int32, path: String)] = []
        var links: [(target: String, path: String)] = []
        for path in ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32"] {
            var status = stat()
            guard lstat(path, &status) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFLNK {
                var target = [UInt8](repeating: 0, count: 256)
                let length = target.withUnsafeMutableBytes { readlink(path, $0.baseAddress!, 255) }
                if length > 0 { links.append((String(decoding: target[..<length], as: UTF8.self), path)) }
                continue
            }
            let tree = try attempt("bind \(path)") { hull_open_tree(AT_FDCWD, path, 1 | UInt32(bitPattern: O_CLOEXEC) | 0x8000) }
            try attempt("protect \(path)") { hull_mount_setattr(tree, "", 0x1000 | 0x8000, 1 | 2 | 4, 0, 0, -1) }
            parts.append((tree, path))
        }
        for (from, path, attributes) in [
            ("tree", "/source", UInt64(1 | 2 | 4 | 8)),
            (".", "/output", UInt64(2 | 4 | 8)),
            (".", "/tmp", UInt64(2 | 4 | 8)),  // mkfs.erofs has a nameless file there when it stores by chunks
        ] {
            let tree = try attempt("bind \(path)") { hull_open_tree(AT_FDCWD, from, 1 | UInt32(bitPattern: O_CLOEXEC)) }
            try attempt("protect \(path)") { hull_mount_setattr(tree, "", 0x1000, attributes, 0, 0, -1) }
            parts.append((tree, path))
        }
        try attempt("mount an empty root") { mount("none", "/proc", "tmpfs", UInt(MS_NOSUID | MS_NODEV), "size=1m,mode=755") }
        for (target, path) in links { try attempt("link \(path)") { symlink(target, "/proc\(path)") } }
        for (tree, path) in parts {
            try attempt("make \(path)") { mkdir("/proc\(path)", 0o755) }
            try attempt("mount \(path)") { hull_move_mount(tree, AT_FDCWD, "/proc\(path)", 0) }
            close(tree)
        }
        try becomeRoot("/proc")
        // The tree may have folders that only their owners may read.
        try keep(dacOverride | dacReadSearch)
    }

    private static func becomeRoot(_ path: String) throws(UnpackFailure) {
        try attempt("enter the new root") { chdir(path) }
        try attempt("enter the new root") { hull_pivot_root(".", ".") }
        try attempt("detach the host's root") { umount2(".", 2 /* MNT_DETACH */) }
        try attempt("enter the new root") { chdir("/") }
    }

    /// Gives up every other capability, for this process and what it executes.
    private static func keep(_ mask: UInt64) throws(UnpackFailure) {
        // With no_new_privs, what it executes gets no more either.
        let result = hull_keep_capabilities(mask)
        if result < 0 { throw UnpackFailure(.system, "drop capabilities: \(String(cString: strerror(-result)))") }
    }

    @discardableResult
    private static func attempt(_ operation: String, _ call: () -> Int32) throws(UnpackFailure) -> Int32 {
        let result = call()
        if result < 0 { throw UnpackFailure(.system, "\(operation): \(String(cString: strerror(errno)))") }
        return result
    }
}
