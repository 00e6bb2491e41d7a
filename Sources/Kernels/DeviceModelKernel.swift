/// A kernel as the QEMU of Xen's device models loads it. Pure. Debian has that QEMU for 32-bit machines only, which takes 32-bit ELF files; and Linux's PVH
/// entry, by which it starts one, is 32-bit code in any kernel. So the same segments are put into such a file, at their physical addresses,
/// without the room between them. QEMU copies them to the guest's memory in one step; a bzImage is read byte by byte, through a port, and takes
/// minutes where SVM is emulated (docs/adr/028).
enum DeviceModelKernel {
    /// The file; nil when `kernel` is no 64-bit ELF kernel with a PVH entry, or lies beyond 4 GiB.
    static func make(_ kernel: [UInt8]) -> [UInt8]? {
        guard let elf = KernelELF(kernel), let entry = elf.entry, let segments = elf.segments else { return nil }
        var segmentsOffset = 52 + 32 * (segments.count + 1)
        // XEN_ELFNOTE_PHYS32_ENTRY, 8 bytes long because QEMU reads it as a number of the host's.
        let note = words([4, 8, 18]) + "Xen\0".utf8 + words([entry, 0])
        var bytes: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 1, 1, 1] + [UInt8](repeating: 0, count: 9)
        // An executable of a 386, whose program headers follow and which has no sections (elf(5)).
        bytes += words([2 | 3 << 16, 1, entry, 52, 0, 0])
        bytes += words([52 | 32 << 16, UInt32(segments.count + 1), 0])
        bytes += header(4, offset: segmentsOffset, address: 0, note.count, note.count, alignment: 4)
        segmentsOffset += note.count
        for segment in segments {
            guard segment.address + UInt64(segment.memory) <= 1 << 32 else { return nil }
            bytes += header(
                1, offset: segmentsOffset, address: UInt32(segment.address), segment.file.count, segment.memory, alignment: 1)
            segmentsOffset += segment.file.count
        }
        bytes += note
        for segment in segments { bytes += kernel[segment.file] }
        return bytes
    }

    private static func header(
        _ type: UInt32, offset: Int, address: UInt32, _ fileSize: Int, _ memorySize: Int, alignment: UInt32
    ) -> [UInt8] {
        // Read, written and run: a loader of memory that nobody protects.
        words([type, UInt32(offset), address, address, UInt32(fileSize), UInt32(memorySize), 7, alignment])
    }

    private static func words(_ words: [UInt32]) -> [UInt8] {
        words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) } }
    }
}
