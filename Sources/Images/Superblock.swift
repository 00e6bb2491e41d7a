import Glibc
import LinuxSystem

/// EROFS' superblock (the kernel's fs/erofs/erofs_fs.h): 128 bytes at 1024, with a checksum over the first block.
enum Superblock {
    private static let start = 1024
    private static let block = 4096

    /// Sets the time of making to 0: mkfs.erofs writes the present, unless all files are to have the same time.
    static func settle(_ file: Int32, _ name: String) throws {
        var bytes = [UInt8](repeating: 0, count: block - start)
        let got = try checked("read", name) { pread(file, &bytes, bytes.count, start) }
        guard got == bytes.count, try settle(&bytes) else {
            throw ImageError(.failed, "\(name): mkfs.erofs made no EROFS image that Hull knows")
        }
        let wrote = try checked("write", name) { pwrite(file, bytes, bytes.count, start) }
        if wrote != bytes.count { throw SystemError("write", name, code: ENOSPC) }
    }

    /// `bytes` is the block from the superblock on. False when it is none.
    static func settle(_ bytes: inout [UInt8]) throws -> Bool {
        guard bytes.count >= 128, Array(bytes[0..<4]) == [0xe2, 0xe1, 0xf5, 0xe0] else { return false }
        // checksum at 4, compatible features at 8, the log of the block's size at 12, seconds at 24, nanoseconds at 32
        guard bytes[12] == 12 else { return false }
        for index in 24..<36 { bytes[index] = 0 }
        guard bytes[8] & 1 != 0 else { return true }
        for index in 4..<8 { bytes[index] = 0 }
        let sum = crc32c(bytes)
        for index in 0..<4 { bytes[4 + index] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * index)) }
        return true
    }

    /// CRC-32C without the final inversion, as the kernel's crc32c(~0, …) gives it.
    static func crc32c(_ bytes: [UInt8]) -> UInt32 {
        var sum = ~UInt32(0)
        for byte in bytes {
            sum ^= UInt32(byte)
            for _ in 0..<8 { sum = sum & 1 != 0 ? (sum >> 1) ^ 0x82f6_3b78 : sum >> 1 }
        }
        return sum
    }
}
