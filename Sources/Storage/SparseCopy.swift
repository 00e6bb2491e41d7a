import CLinux
import Glibc
import LinuxSystem

/// Copies a file with its holes: shared blocks where the filesystem can (FICLONE), else only its data (SEEK_DATA, lseek(2)).
/// `target` must not exist.
public func copySparse(from source: String, to target: String) throws {
    let from = try openFile(source, O_RDONLY)
    let to = try openFile(target, O_WRONLY | O_CREAT | O_EXCL)
    do {
        if hull_ioctl_clone_file(to.raw, from.raw) == 0 { return }
        var status = stat()
        try checked("look at", source) { fstat(from.raw, &status) }
        try checked("set the length of", target) { ftruncate(to.raw, status.st_size) }
        var offset = 0
        while offset < status.st_size {
            let start = lseek(from.raw, offset, 3 /* SEEK_DATA */)
            if start < 0 && errno == ENXIO { break }  // only a hole is left
            if start < 0 { throw SystemError("read", source) }
            let end = try checked("read", source) { lseek(from.raw, start, 4 /* SEEK_HOLE */) }
            try copyRange(from.raw, to.raw, start, end, source)
            offset = end
        }
    } catch {
        unlink(target)
        throw error
    }
}

private func copyRange(_ from: Int32, _ to: Int32, _ start: Int, _ end: Int, _ source: String) throws(SystemError) {
    var (inOffset, outOffset) = (off_t(start), off_t(start))
    while inOffset < end {
        let count = copy_file_range(from, &inOffset, to, &outOffset, end - Int(inOffset), 0)
        if count > 0 { continue }
        if count < 0 && errno == EINTR { continue }
        guard count < 0, [EXDEV, ENOSYS, EOPNOTSUPP, EINVAL].contains(errno) else {
            throw SystemError("copy", source, code: count == 0 ? EIO : errno)
        }
        // Filesystems that cannot do it in the kernel.
        let bytes = [UInt8](unsafeUninitializedCapacity: min(1 << 20, end - Int(inOffset))) { buffer, used in
            used = max(0, pread(from, buffer.baseAddress, buffer.count, Int(inOffset)))
        }
        if bytes.isEmpty { throw SystemError("copy", source, code: EIO) }
        let wrote = try checked("copy", source) { pwrite(to, bytes, bytes.count, Int(outOffset)) }
        inOffset += off_t(wrote)
        outOffset += off_t(wrote)
    }
}
