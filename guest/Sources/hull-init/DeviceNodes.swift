import AgentProtocol
import CGuest

/// What is in a container's /dev.
enum DeviceNodes {
    private static let standard: [(StaticString, UInt32, UInt32)] = [
        ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
    ]

    /// Docker's nodes and links; with `privileged` every node of the guest but the agent's own.
    static func fill(_ folder: Int32, privileged: Bool) {
        for (name, major, minor) in standard { _ = guest_mknodat(folder, name.text, UInt32(S_IFCHR) | 0o666, major, minor) }
        for (target, name) in [
            ("/proc/self/fd", "fd"), ("/proc/self/fd/0", "stdin"), ("/proc/self/fd/1", "stdout"), ("/proc/self/fd/2", "stderr"),
            ("/proc/kcore", "core"), ("pts/ptmx", "ptmx"),
        ] as [(String, String)] {
            _ = symlinkat(target, folder, name)
        }
        if privileged {
            copyNodes("/dev", folder, depth: 0)
            addLoadable(folder)
        }
    }

    /// The nodes whose first opening loads their driver (`fuse fuse c10:229`, `tun net/tun c10:200`): depmod wrote them down,
    /// and the kernel shows them only when they are loaded.
    private static func addLoadable(_ folder: Int32) {
        for line in Scan.split(TextFile.read("/lib/modules/\(Guest.kernelRelease())/modules.devname"), 10) {
            let words = Scan.words(line)
            guard words.count == 3, let kind = words[2].first, kind == 98 || kind == 99 else { continue }
            let numbers = Scan.split(words[2].dropFirst(), 58)
            guard numbers.count == 2, let major = Scan.number(numbers[0]), let minor = Scan.number(numbers[1]) else { continue }
            let parts = Scan.split(words[1], 47)
            if parts.count == 2 { _ = mkdirat(folder, Scan.text(parts[0]), 0o755) }
            // Those two are everybody's on any host.
            let mode: UInt32 = major == 10 && (minor == 229 || minor == 200) ? 0o666 : 0o600
            // One that is there is the kernel's own.
            _ = guest_mknodat(
                folder, Scan.text(words[1]), mode | (kind == 98 ? UInt32(S_IFBLK) : UInt32(S_IFCHR)),
                UInt32(truncatingIfNeeded: major), UInt32(truncatingIfNeeded: minor))
        }
    }

    private static func copyNodes(_ path: String, _ folder: Int32, depth: Int) {
        for name in Directory.names(path) {
            let isHidden = name == "console" || name == "ptmx" || name == "pts" || name == "shm" || name == "mqueue"
            if isHidden || name.utf8.starts(with: "vport".utf8) { continue }
            var status = stat()
            let from = path + "/" + name
            guard lstat(from, &status) == 0 else { continue }
            let type = status.st_mode & UInt32(S_IFMT)
            if type == UInt32(S_IFCHR) || type == UInt32(S_IFBLK) {
                if guest_mknodat(
                    folder, name, status.st_mode, guest_device_major(UInt64(status.st_rdev)),
                    guest_device_minor(UInt64(status.st_rdev))) == 0
                {
                    _ = fchownat(folder, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW)
                }
            } else if type == UInt32(S_IFDIR), depth < 4 {
                _ = mkdirat(folder, name, 0o755)
                let inner = guest_openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
                if inner >= 0 {
                    copyNodes(from, inner, depth: depth + 1)
                    close(inner)
                }
            }
        }
    }

    /// One node more.
    static func make(_ device: DeviceConfiguration, _ root: borrowing RootPaths) throws(KernelError) {
        let parts = Scan.split(device.path.utf8, 47).filter { !$0.isEmpty }
        guard let last = parts.last else { throw KernelError(EINVAL) }
        var folder = ""
        for part in parts.dropLast() { folder += "/" + Scan.text(part) }
        let parent = Descriptor(owning: try root.makeDirectory(folder))
        let name = Scan.text(last)
        _ = unlinkat(parent.number, name, 0)
        try KernelError.check(guest_mknodat(parent.number, name, device.mode, device.major, device.minor))
        _ = fchownat(parent.number, name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW)
    }
}

extension StaticString {
    /// As a string.
    var text: String { withUTF8Buffer { String(decoding: $0, as: UTF8.self) } }
}
