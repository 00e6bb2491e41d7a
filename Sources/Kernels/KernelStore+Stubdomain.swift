import CLinux
import Glibc
import LinuxSystem
import StubdomainProtocol

extension KernelStore {
    /// The ramdisk of a stubdomain whose QEMU starts a guest with `kernel` and `initramfs`: the image's, and behind it an archive with both. Its
    /// memory must hold it twice, packed and unpacked, and QEMU.
    public func stubdomainRamdisk(
        _ image: StubdomainLibrary.Entry, kernel: Kernel, initramfs: String
    ) async throws -> (path: String, memoryBytes: UInt64) {
        let name = ShortName.of(["1", try FileStamp(image.ramdisk).text, kernel.identity, try FileStamp(initramfs).text])
        let path = try await cache.file("stubdomains", name) { file, path in
            guard let loadable = DeviceModelKernel.make(try readFile(kernel.image)) else {
                throw KernelError("the kernel \(kernel.source) has no PVH entry below 4 GiB, by which a device model starts it")
            }
            var guest = CPIOArchive()
            guest.addFolder(String(Stubdomain.folder.dropFirst()))
            guest.addFile(String(Stubdomain.kernel.dropFirst()), loadable, mode: 0o644)
            guest.addFile(String(Stubdomain.initramfs.dropFirst()), try readFile(initramfs), mode: 0o644)
            guest.finish()
            try writeFile(file, path, try readFile(image.ramdisk))
            try writeFile(file, path, guest.bytes)
        }
        var status = stat()
        try checked("look at", path) { stat(path, &status) }
        return (path, 2 * UInt64(status.st_size) + 192 << 20)
    }
}
