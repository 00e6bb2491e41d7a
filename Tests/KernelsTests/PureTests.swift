import Testing

@testable import Kernels

@Suite struct ModuleIndexTests {
    static let index = ModuleIndex(
        dependencies: """
            kernel/drivers/virtio/virtio_ring.ko:
            kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
            kernel/drivers/virtio/virtio_mmio.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
            kernel/lib/libcrc32c.ko:
            kernel/arch/x86/crypto/crc32c-intel.ko:
            kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko
            kernel/a.ko: kernel/b.ko
            kernel/b.ko: kernel/a.ko

            """,
        builtin: "kernel/fs/ext4/ext4.ko\nkernel/crypto/crc32c_generic.ko\n",
        soft: "# a comment\nsoftdep libcrc32c pre: crc32c post: nothing\n",
        aliases: "alias crc32c crc32c_intel\nalias pci:v* other\n")

    @Test func whatIsNeededComesFirst() throws {
        #expect(
            try Self.index.order(of: ["virtio_mmio"]) == [
                "kernel/drivers/virtio/virtio_ring.ko", "kernel/drivers/virtio/virtio.ko",
                "kernel/drivers/virtio/virtio_mmio.ko.xz",
            ])
    }

    @Test func whatIsBuiltInIsLeftOut() throws { #expect(try Self.index.order(of: ["ext4", "crc32c-generic"]) == []) }

    @Test func softDependenciesGoThroughAliases() throws {
        #expect(
            try Self.index.order(of: ["erofs"]) == [
                "kernel/arch/x86/crypto/crc32c-intel.ko", "kernel/lib/libcrc32c.ko", "kernel/fs/erofs/erofs.ko",
            ])
    }

    @Test func nothingIsLoadedTwice() throws {
        #expect(try Self.index.order(of: ["virtio", "virtio-ring", "virtio"]).count == 2)
    }

    @Test func aCircleEnds() throws { #expect(try Self.index.order(of: ["a"]) == ["kernel/b.ko", "kernel/a.ko"]) }

    @Test func whatIsMissingIsNamed() {
        #expect(throws: MissingModule(name: "9p")) { try Self.index.order(of: ["virtio", "9p"]) }
    }

    @Test(arguments: [("kernel/x/virtio-rng.ko.zst", "virtio_rng"), ("erofs", "erofs"), ("a/b.ko", "b")])
    func names(_ path: String, _ name: String) { #expect(ModuleIndex.name(path) == name) }
}

@Suite struct CPIOTests {
    @Test func matchesTheFormat() {
        var archive = CPIOArchive()
        archive.addFolder("dev")
        archive.addFile("init", Array("hello".utf8), mode: 0o755)
        archive.finish()
        let text = String(decoding: archive.bytes, as: UTF8.self)
        let expected =
            "070701" + "00000001" + "000041ED" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" + "00000000"
            + "00000000"
            + "00000000" + "00000000" + "00000004" + "00000000" + "dev\0" + "\0\0" + "070701" + "00000002" + "000081ED"
        #expect(text.hasPrefix(expected))
        #expect(archive.bytes.count == 512)
        #expect(text.contains("hello\0\0\0070701"))
    }
}

@Suite struct BootImageTests {
    static func image(release: String = "6.1.0-9-cloud-amd64 (x@y) #1 SMP", payload: [UInt8]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1024)
        bytes[0x1F1] = 1
        bytes.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
        bytes[0x206] = 0x0F
        bytes[0x207] = 0x02
        bytes[0x20E] = 0x80  // the version string is at 0x280
        bytes.replaceSubrange(0x280..<0x280 + release.utf8.count, with: Array(release.utf8))
        bytes[0x24C] = UInt8(payload.count)
        return bytes + payload
    }

    @Test func payloadAndRelease() throws {
        let image = try #require(BootImage(Self.image(payload: [UInt8](repeating: 7, count: 20))))
        #expect(image.payload == 1024..<1044)
        #expect(image.release == "6.1.0-9-cloud-amd64")
    }

    @Test func hostileHeads() {
        #expect(BootImage([]) == nil)
        #expect(BootImage([UInt8](repeating: 0xFF, count: 4096)) == nil)
        // A payload that ends behind the file, and a release that would leave its folder.
        #expect(BootImage(Array(Self.image(payload: [UInt8](repeating: 7, count: 20)).dropLast())) == nil)
        #expect(BootImage(Self.image(release: "6/../../etc ", payload: [UInt8](repeating: 7, count: 20))) == nil)
        var old = Self.image(payload: [UInt8](repeating: 7, count: 20))
        old[0x206] = 7
        #expect(BootImage(old) == nil)
    }

    @Test(arguments: [
        ([0x1F, 0x8B, 8] as [UInt8], Compression.gzip), ([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0], .xz), ([2, 0x21, 0x4C, 0x18], .lz4),
        ([0x28, 0xB5, 0x2F, 0xFD], .zstd),
    ]) func compressions(_ head: [UInt8], _ expected: Compression) {
        #expect(Compression(head) == expected)
        #expect(Compression(head.dropLast()) == nil || expected == .gzip)
    }

    @Test func releasesAreOrderedByNumber() {
        #expect(KernelRelease.isOlder("6.9.1-amd64", than: "6.10.0-amd64"))
        #expect(KernelRelease.isOlder("6.1.0-9-cloud", than: "6.1.0-56-cloud"))
        #expect(!KernelRelease.isOlder("6.1.0-56-cloud", than: "6.1.0-9-cloud"))
    }
}

@Suite struct KernelELFTests {
    /// A small ELF with notes and a banner.
    static func elf(notes: [UInt8], banner: String = "Linux version 6.1.0 (me)") -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 120)
        bytes.replaceSubrange(0..<6, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1])
        bytes[32] = 64
        bytes[54] = 56
        bytes[56] = 1
        bytes[64] = 4
        bytes[72] = 120
        bytes[96] = UInt8(notes.count)
        return bytes + notes + Array(banner.utf8)
    }
    static func note(_ name: String, _ type: UInt8, _ value: [UInt8]) -> [UInt8] {
        [UInt8(name.utf8.count), 0, 0, 0, UInt8(value.count), 0, 0, 0, type, 0, 0, 0] + Array(name.utf8) + value
    }

    @Test func notesAndBanner() throws {
        let elf = try #require(
            KernelELF(Self.elf(notes: Self.note("Xen\0", 18, [0, 0, 0, 1]) + Self.note("GNU\0", 3, [0xAB, 0xCD, 1, 2]))))
        #expect(elf.hasPVHEntry)
        #expect(elf.buildID == "abcd0102")
        #expect(elf.release == "6.1.0")
    }

    @Test func withoutPVH() throws {
        let elf = try #require(KernelELF(Self.elf(notes: Self.note("Xen\0", 5, [0, 0, 0, 1]))))
        #expect(!elf.hasPVHEntry)
    }

    @Test func anyCutIsSurvived() {
        let whole = Self.elf(notes: Self.note("Xen\0", 18, [0, 0, 0, 1]))
        for count in 0..<whole.count { _ = KernelELF(Array(whole[..<count])) }
        for offset in 0..<whole.count {
            var broken = whole
            broken[offset] = 0xFF
            _ = KernelELF(broken)
        }
    }
}
