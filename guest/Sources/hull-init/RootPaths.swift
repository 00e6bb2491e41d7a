import AgentProtocol
import CGuest

/// Paths inside a container's root, resolved by the kernel so that no link of an image leads out.
struct RootPaths: ~Copyable {
    /// The root directory.
    let root: Descriptor

    /// The root at `path`.
    init(_ path: String) throws(AgentFailure) {
        let opened = guest_open(path, O_PATH | O_DIRECTORY, 0)
        if opened < 0 {
            throw AgentFailure(.mount, "opening the root file system: \(KernelError(-opened).words)", errno: -opened)
        }
        root = Descriptor(owning: opened)
    }

    /// Opens a path, following links within the root.
    borrowing func open(_ path: String, _ flags: Int32, mode: UInt32 = 0) throws(KernelError) -> Int32 {
        try KernelError.check(guest_open_in_root(root.number, path.utf8.isEmpty ? "/" : path, flags, mode))
    }

    /// A directory, made with its parents where missing; the descriptor is only good as a place (O_PATH).
    borrowing func makeDirectory(_ path: String, mode: UInt32 = 0o755) throws(KernelError) -> Int32 {
        if let there = try? open(path, O_PATH | O_DIRECTORY) { return there }  // the usual case; the walk below finds out why not
        var current = try open("/", O_PATH | O_DIRECTORY)
        var sofar = ""
        for part in Scan.split(path.utf8, 47) where !part.isEmpty {
            sofar += "/" + Scan.text(part)
            let next = guest_open_in_root(root.number, sofar, O_PATH | O_DIRECTORY, 0)
            if next == -ENOENT {
                let made = mkdirat(current, Scan.text(part), mode)
                let error = guest_errno()
                if made < 0, error != EEXIST {
                    close(current)
                    throw KernelError(error)
                }
                let opened = guest_open_in_root(root.number, sofar, O_PATH | O_DIRECTORY, 0)
                close(current)
                current = try KernelError.check(opened)
            } else {
                close(current)
                current = try KernelError.check(next)
            }
        }
        return current
    }

    /// A file to mount over, made empty with its parents where missing.
    borrowing func makeFile(_ path: String) throws(KernelError) -> Int32 {
        if let there = try? open(path, O_PATH) { return there }  // as above
        let parts = Scan.split(path.utf8, 47).filter { !$0.isEmpty }
        guard let name = parts.last else { throw KernelError(EISDIR) }
        var folder = ""
        for part in parts.dropLast() { folder += "/" + Scan.text(part) }
        let parent = Descriptor(owning: try makeDirectory(folder))
        let made = guest_openat(parent.number, Scan.text(name), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0o644)
        if made >= 0 { close(made) } else if made != -EEXIST { throw KernelError(-made) }
        return try open(path, O_PATH)
    }

    /// What is at the path: its mode, or nil when there is nothing.
    borrowing func mode(_ path: String) -> UInt32? {
        guard let there = try? open(path, O_PATH) else { return nil }  // absent is an answer
        defer { close(there) }
        var status = stat()
        return fstat(there, &status) == 0 ? status.st_mode : nil
    }
}
