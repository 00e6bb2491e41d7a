import Glibc
public import LinuxSystem

/// The content of a file that is mostly holes, block by block: what is zeros is left out, wherever the holes are.
public enum SparseBlocks {
    /// Bytes of a block; a file's last one may be shorter.
    public static let size = 1 << 16

    /// Calls `body` with each block of `file` that is not all zeros, in order. The bytes are those of the call only.
    public static func each(
        of file: SharedDescriptor, _ name: String, _ body: (_ offset: Int, _ bytes: UnsafeRawBufferPointer) throws -> Void
    ) throws {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
        defer { buffer.deallocate() }
        var status = stat()
        try checked("look at", name) { fstat(file.raw, &status) }
        let length = Int(status.st_size)
        var place = 0
        while place < length {
            let start = lseek(file.raw, place, 3 /* SEEK_DATA */)
            if start < 0, errno == ENXIO { return }  // only a hole is left
            guard start >= 0 else { throw SystemError("read", name) }
            let end = Int(try checked("read", name) { lseek(file.raw, start, 4 /* SEEK_HOLE */) })
            place = max(place, Int(start) / size * size)
            while place < min(end, length) {
                let wanted = min(size, length - place)
                var got = 0
                while got < wanted {
                    let count = try checked("read", name) {
                        pread(file.raw, buffer.baseAddress! + got, wanted - got, place + got)
                    }
                    guard count > 0 else { throw SystemError("read", name, code: EIO) }
                    got += count
                }
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<wanted])
                if !isZero(bytes) { try body(place, bytes) }
                place += wanted
            }
        }
    }

    private static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let first = bytes.first, first == 0 else { return bytes.isEmpty }
        return bytes.count == 1 || memcmp(bytes.baseAddress!, bytes.baseAddress! + 1, bytes.count - 1) == 0
    }
}
