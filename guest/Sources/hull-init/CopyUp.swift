import CGuest

/// Fills an empty volume with what the image has at its place: contents, owners, modes, times, links, extended attributes.
enum CopyUp {
    /// Whether a directory has no entries but a file system's own `lost+found`.
    static func isEmpty(_ folder: Int32) -> Bool {
        Directory.names(Mounting.path(of: folder)).allSatisfy { $0 == "lost+found" }
    }

    /// Copies the contents and the properties of one directory to another.
    static func copy(from source: Int32, to target: Int32) throws(KernelError) {
        try copyEntries(source, target, depth: 0)
        try properties(source, target)
    }

    private static func copyEntries(_ source: Int32, _ target: Int32, depth: Int) throws(KernelError) {
        guard depth < 256 else { throw KernelError(ELOOP) }
        for name in Directory.names(Mounting.path(of: source)) {
            var status = stat()
            guard fstatat(source, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { throw KernelError(guest_errno()) }
            switch status.st_mode & UInt32(S_IFMT) {
            case UInt32(S_IFDIR):
                try KernelError.checkErrno(mkdirat(target, name, 0o700))
                let from = Descriptor(
                    owning: try KernelError.check(guest_openat(source, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)))
                let to = Descriptor(
                    owning: try KernelError.check(guest_openat(target, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)))
                try copyEntries(from.number, to.number, depth: depth + 1)
                try properties(from.number, to.number)
            case UInt32(S_IFREG):
                let from = Descriptor(owning: try KernelError.check(guest_openat(source, name, O_RDONLY | O_NOFOLLOW, 0)))
                let to = Descriptor(
                    owning: try KernelError.check(guest_openat(target, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)))
                try contents(from.number, to.number)
                try properties(from.number, to.number)
            case UInt32(S_IFLNK):
                var buffer = [CChar](repeating: 0, count: 4097)
                let length = readlinkat(source, name, &buffer, 4096)
                guard length >= 0 else { throw KernelError(guest_errno()) }
                try KernelError.checkErrno(symlinkat(buffer, target, name))
                _ = fchownat(target, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW)
            default:
                try KernelError.check(
                    guest_mknodat(
                        target, name, status.st_mode, guest_device_major(UInt64(status.st_rdev)),
                        guest_device_minor(UInt64(status.st_rdev))))
                _ = fchownat(target, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW)
            }
        }
    }

    private static func contents(_ source: Int32, _ target: Int32) throws(KernelError) {
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let got = read(source, &buffer, buffer.count)
            if got == 0 { return }
            guard got > 0 else { throw KernelError(guest_errno()) }
            var done = 0
            while done < got {
                let wrote = buffer.withUnsafeBytes { write(target, $0.baseAddress! + done, got - done) }
                guard wrote > 0 else { throw KernelError(guest_errno()) }
                done += wrote
            }
        }
    }

    private static func properties(_ source: Int32, _ target: Int32) throws(KernelError) {
        var status = stat()
        guard fstat(source, &status) == 0 else { throw KernelError(guest_errno()) }
        try KernelError.checkErrno(fchown(target, status.st_uid, status.st_gid))
        try KernelError.checkErrno(fchmod(target, status.st_mode & 0o7777))
        var names = [CChar](repeating: 0, count: 4096)
        let length = flistxattr(source, &names, names.count)
        if length > 0 {
            for name in Scan.split(names[0..<length].map { UInt8(bitPattern: $0) }, 0) where !name.isEmpty {
                // The overlay's own marks mean nothing in a volume.
                if name.starts(with: "trusted.overlay.".utf8) { continue }
                var value = [UInt8](repeating: 0, count: 65536)
                let size = fgetxattr(source, Scan.text(name), &value, value.count)
                if size >= 0 { _ = fsetxattr(target, Scan.text(name), value, size, 0) }
            }
        }
        var times = [status.st_atim, status.st_mtim]
        _ = futimens(target, &times)
    }
}
