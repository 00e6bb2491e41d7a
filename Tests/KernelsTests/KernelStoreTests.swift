import CLinux
import Glibc
import LinuxSystem
import Testing

@testable import Kernels

/// The host's own kernel, and kernels packed by the host's tools.
@Suite(.serialized) struct KernelStoreTests {
    static let hasKernel: Bool = ((try? listDirectory("/boot")) ?? []).contains { $0.hasPrefix("vmlinuz-") }

    init() { Loop.runInBackground() }

    static func withFolder<R: Sendable>(_ body: @Loop (String) async throws -> R) async throws -> R {
        var template = Array("/tmp/hull-kernels-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("make a folder") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { try? removeTree(path) }
        return try await body(path)
    }

    @Test(.enabled(if: hasKernel, "no kernel in /boot: install linux-image-cloud-amd64")) @Loop
    func theHostsKernel() async throws {
        try await Self.withFolder { folder in
            let store = KernelStore(cache: folder, library: KernelLibrary("\(folder)/library"))
            let kernel = try await store.kernel()
            #expect(kernel.source.contains(kernel.release))
            #expect(KernelELF(try readFile(kernel.image))?.hasPVHEntry == true)
            // A second time nothing is made.
            let before = try FileStamp(kernel.image)
            let start = ContinuousClock.now
            #expect(try await store.kernel() == kernel)
            #expect(ContinuousClock.now - start < .milliseconds(50))
            #expect(try FileStamp(kernel.image) == before)

            let agent = "\(folder)/agent"
            try writeFile(agent, Array("#!".utf8), flags: O_WRONLY | O_CREAT)
            let modules = ["virtio_mmio", "virtio_console", "virtio_blk", "erofs", "overlay", "virtiofs", "virtio_net"]
            let initramfs = try await store.initramfs(for: kernel, agent: agent, modules: modules)
            let text = String(decoding: try readFile(initramfs), as: UTF8.self)
            #expect(text.contains("modules/order\0"))
            #expect(try await store.initramfs(for: kernel, agent: agent, modules: modules) == initramfs)
            #expect(try await store.initramfs(for: kernel, agent: agent, modules: []) != initramfs)
            // Another agent is another initramfs.
            try replaceFile(agent, Array("#!x".utf8))
            #expect(try await store.initramfs(for: kernel, agent: agent, modules: modules) != initramfs)
            await #expect(throws: KernelError.self) {
                try await store.initramfs(for: kernel, agent: agent, modules: ["no_such_module"])
            }

            let image = try #require(try await store.modulesImage(for: kernel))
            let head = try readFile(image)
            #expect(head[1024..<1028].elementsEqual([0xE2, 0xE1, 0xF5, 0xE0]))
            #expect(try listDirectory("\(folder)/modules").filter { $0.hasPrefix(".new") }.isEmpty)
        }
    }

    @Test(arguments: [("gzip", [] as [String], 0), ("xz", ["--check=crc32"], 4), ("zstd", ["-q"], 4), ("lz4", ["-l", "-q"], 4)])
    @Loop
    func everyPacking(_ tool: String, _ arguments: [String], _ trailer: Int) async throws {
        try await Self.withFolder { folder in
            let elf = KernelELFTests.elf(notes: KernelELFTests.note("Xen\0", 18, [0, 0, 0, 1]))
            let packed = try await Spawn("/usr/bin/\(tool)", arguments + ["-c"]).run(input: elf)
            try #require(packed.status.isSuccess, "\(packed.complaint)")
            let payload = packed.standardOutput + [UInt8](repeating: 9, count: trailer)
            let path = "\(folder)/vmlinuz-test"
            try writeFile(path, BootImageTests.image(payload: payload), flags: O_WRONLY | O_CREAT)
            let kernel = try await KernelStore(cache: "\(folder)/cache", library: KernelLibrary("\(folder)/library")).kernel(path)
            #expect(try readFile(kernel.image) == elf)
            #expect(kernel.release == "6.1.0")
            #expect(kernel.modules == nil)
        }
    }

    @Test @Loop func refusals() async throws {
        try await Self.withFolder { folder in
            let store = KernelStore(
                cache: "\(folder)/cache", library: KernelLibrary("\(folder)/library"), boot: "\(folder)/boot")
            await #expect(throws: KernelError.self) { try await store.kernel() }
            await #expect(throws: KernelError.self) { try await store.kernel("\(folder)/nothing") }
            try writeFile("\(folder)/text", Array("no kernel".utf8), flags: O_WRONLY | O_CREAT)
            await #expect(throws: KernelError.self) { try await store.kernel("\(folder)/text") }
            try writeFile("\(folder)/elf", KernelELFTests.elf(notes: []), flags: O_WRONLY | O_CREAT)
            do {
                _ = try await store.kernel("\(folder)/elf")
                Issue.record("a kernel without a PVH entry was taken")
            } catch { #expect("\(error)".contains("CONFIG_PVH")) }
            // A payload that is cut short.
            let head: [UInt8] = [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00] + [UInt8](repeating: 1, count: 30)
            try writeFile("\(folder)/cut", BootImageTests.image(payload: head), flags: O_WRONLY | O_CREAT)
            await #expect(throws: KernelError.self) { try await store.kernel("\(folder)/cut") }
            // Nothing half made is left.
            #expect(try listDirectory("\(folder)/cache/kernels") == [".lock"])
        }
    }

    @Test(.enabled(if: hasKernel, "no kernel in /boot: install linux-image-cloud-amd64")) @Loop
    func severalAtOnce() async throws {
        try await Self.withFolder { folder in
            let store = KernelStore(cache: folder, library: KernelLibrary("\(folder)/library"))
            // A maker that was killed left this.
            try makeDirectories("\(folder)/kernels")
            try writeFile("\(folder)/kernels/.new", [1, 2, 3], flags: O_WRONLY | O_CREAT)
            let tasks = (0..<4).map { _ in Task { @Loop in try await store.kernel() } }
            var images: Set<String> = []
            for task in tasks { images.insert(try await task.value.image) }
            #expect(images.count == 1)
            #expect(KernelELF(try readFile(images.first!))?.hasPVHEntry == true)
        }
    }
}
