import CLinux
import Glibc
public import LinuxSystem

/// A kernel that a machine can boot.
public struct Kernel: Sendable, Hashable {
    /// What the machine is given: an ELF vmlinux, readable by everybody.
    public var image: String
    /// What `uname -r` says.
    public var release: String
    /// Names its content: the linker's build id where it has one.
    public var identity: String
    /// Where it came from on this host.
    public var source: String
    /// The folder of its modules on this host; nil when there is none, which is fine for a kernel with all built in.
    public var modules: String?
}

/// Kernels of this host, made ready for machines: found, unpacked, and with the little root that the agent starts from. What is made is kept under one folder.
@Loop
public struct KernelStore {
    let cache: ContentCache
    private let boot: String
    private let modulesRoot: String
    private let library: KernelLibrary

    /// Keeps what it makes below `cache`. `library` has the kernels of Hull's own making; `boot` and `modules` are the host's folders of
    /// kernels and of module trees.
    public init(cache: String, library: KernelLibrary, boot: String = "/boot", modules: String = "/lib/modules") {
        self.cache = ContentCache(path: cache)
        self.library = library
        self.boot = boot
        self.modulesRoot = modules
    }

    /// The kernel that `wanted` names: one of the library's, the file of that path, or `host`, the host's best one (the newest `vmlinuz-*` of those
    /// made for the cloud, which boot quickest, else the newest). nil is what `hull kernel use` chose, else the host's best.
    public func kernel(_ wanted: String? = nil) async throws -> Kernel {
        let named = wanted ?? library.chosen ?? KernelLibrary.host
        let own = library.contains(named)
        if !own, named == library.chosen {
            throw KernelError(
                "the kernel \(named), which hull kernel use chose, is not there any more: choose another, or the host's with hull kernel use host"
            )
        }
        let source = try own ? "\(library.folder.entry(named))/vmlinux" : named == KernelLibrary.host ? newest() : named
        let stamp: FileStamp
        do { stamp = try FileStamp(source) } catch {
            throw KernelError(
                "the kernel \(source) cannot be read: give --kernel the path of a vmlinuz or vmlinux, or a name that hull kernel ls shows",
                cause: error)
        }
        let name = ShortName.of(["1", stamp.text])
        let image = try await cache.file("kernels", name) { file, _ in try await self.unpack(source, into: file) }
        let facts = try await cache.file("kernel-facts", name) { file, path in
            guard let elf = KernelELF(try readFile(image)) else {
                throw KernelError("\(image) is damaged: remove it, and it is made again")
            }
            guard let release = elf.release else {
                throw KernelError("the kernel \(source) does not say its release: is it a Linux kernel?")
            }
            try writeFile(file, path, Array("\(release)\n\(elf.buildID ?? name)\n".utf8))
        }
        let lines = try readText(facts).split(separator: "\n").map(String.init)
        guard lines.count == 2, KernelRelease.isPlausible(lines[0]) else {
            throw KernelError("\(facts) is damaged: remove it, and it is made again")
        }
        let tree = own ? "\(library.folder.entry(named))/modules" : "\(modulesRoot)/\(lines[0])"
        return Kernel(
            image: image, release: lines[0], identity: lines[1], source: source,
            modules: access("\(tree)/modules.dep", R_OK) == 0 ? tree : nil)
    }

    private func newest() throws -> String {
        // No such folder, no kernels.
        let names = ((try? listDirectory(boot)) ?? []).filter { $0.hasPrefix("vmlinuz-") && access("\(boot)/\($0)", R_OK) == 0 }
        let order = names.sorted { one, other in
            let cloud = (one.contains("cloud"), other.contains("cloud"))
            if cloud.0 != cloud.1 { return cloud.1 }
            return KernelRelease.isOlder(String(one.dropFirst(8)), than: String(other.dropFirst(8)))
        }
        guard let best = order.last else {
            throw KernelError(
                "no kernel was found in \(boot): install the package linux-image-cloud-amd64, or give --kernel a path")
        }
        return "\(boot)/\(best)"
    }

    /// Writes the ELF kernel that is `source`, or that is packed in it, to `file`.
    private func unpack(_ source: String, into file: Int32) async throws {
        let bytes = try readFile(source, limit: 1 << 30)
        if KernelELF(bytes) == nil {
            guard let image = BootImage(bytes) else {
                throw KernelError("\(source) is no kernel that Hull knows: neither an ELF vmlinux nor an x86 bzImage")
            }
            let payload = bytes[image.payload]
            guard let compression = Compression(payload) else {
                throw KernelError(
                    "the kernel in \(source) is packed in a way Hull does not know: gzip, xz, lz4 and zstd are known; give --kernel its vmlinux"
                )
            }
            try await Self.expand(Array(payload.dropLast(compression.trailer)), compression, into: file)
        } else {
            try writeFile(file, source, bytes)
        }
        let unpacked = try Self.reread(file, source)
        guard let elf = KernelELF(unpacked) else { throw KernelError("what is packed in \(source) is no 64-bit ELF kernel") }
        guard elf.hasPVHEntry else {
            throw KernelError(
                "the kernel \(source) has no PVH entry (CONFIG_PVH), which machines start it by: use a distribution's cloud kernel"
            )
        }
    }

    static func reread(_ file: Int32, _ name: String) throws -> [UInt8] {
        try checked("rewind", name) { lseek(file, 0, SEEK_SET) }
        return try readFile(file, name, limit: 1 << 30)
    }

    static func expand(_ packed: [UInt8], _ compression: Compression, into file: Int32) async throws {
        let memory = try makeMemoryFile("packed")
        try writeFile(memory.raw, "a memory file", packed)
        try checked("rewind", "a memory file") { lseek(memory.raw, 0, SEEK_SET) }
        let program = compression.program
        try await HostProgram.run(program.name, program.arguments, package: program.package, input: memory, output: file)
    }

    /// The initramfs for `kernel`: `agent` (a static program) as `/init`, and in `/modules` what `modules` need, in the order that
    /// `/modules/order` says, one file name a line.
    public func initramfs(for kernel: Kernel, agent: String, modules: [String]) async throws -> String {
        let agentStamp: FileStamp
        do { agentStamp = try FileStamp(agent) } catch {
            throw KernelError("the guest's program \(agent) is missing: build it with `make build`", cause: error)
        }
        let tree = try kernel.modules.map { try FileStamp("\($0)/modules.dep").text } ?? ""
        let name = ShortName.of(["2", agentStamp.text, kernel.identity, tree] + modules) + ".cpio"
        return try await cache.file("initramfs", name) { file, path in
            try writeFile(file, path, try await self.archive(kernel, agent, modules))
        }
    }

    private func archive(_ kernel: Kernel, _ agent: String, _ modules: [String]) async throws -> [UInt8] {
        var archive = CPIOArchive()
        for folder in ["dev", "proc", "sys", "run", "modules"] { archive.addFolder(folder) }
        // Distributions keep a kernel's configuration beside it; without one, the kernel is believed to have all built in.
        if kernel.modules == nil, let options = try? readText("\(boot)/config-\(kernel.release)"),
            options.contains("CONFIG_VIRTIO=m")
        {
            throw KernelError(
                "the modules of the kernel \(kernel.release), which it needs, are not in \(modulesRoot)/\(kernel.release): install its package again, or give --kernel another"
            )
        }
        archive.addFile("init", try readFile(agent, limit: 64 << 20), mode: 0o755)
        try await add(modules, of: kernel, to: &archive)
        archive.finish()
        return archive.bytes
    }

    /// Adds what of `modules` the kernel has not built in, below `modules`, with the `order` in which they are to be loaded.
    func add(_ modules: [String], of kernel: Kernel, to archive: inout CPIOArchive) async throws {
        var order = ""
        if let tree = kernel.modules {
            // A kernel without these two files has no soft dependencies.
            let soft = (try? readText("\(tree)/modules.softdep")) ?? ""
            let aliases = (try? readText("\(tree)/modules.alias")) ?? ""
            let index = ModuleIndex(
                dependencies: try readText("\(tree)/modules.dep"), builtin: try readText("\(tree)/modules.builtin"), soft: soft,
                aliases: aliases)
            let paths: [String]
            do { paths = try index.order(of: modules) } catch {
                throw KernelError(
                    "the kernel \(kernel.release) has no module \(error.name) in \(tree), which this machine needs: install the kernel's modules, or use another --kernel"
                )
            }
            for path in paths {
                let file = "\(ModuleIndex.name(path)).ko"
                archive.addFile("modules/\(file)", try await module("\(tree)/\(path)"), mode: 0o644)
                order += file + "\n"
            }
        }
        archive.addFile("modules/order", Array(order.utf8), mode: 0o644)
    }

    private func module(_ path: String) async throws -> [UInt8] {
        let bytes = try readFile(path, limit: 64 << 20)
        guard let compression = Compression(bytes) else { return bytes }
        let memory = try makeMemoryFile("module")
        try await Self.expand(bytes, compression, into: memory.raw)
        return try Self.reread(memory.raw, path)
    }

    /// An EROFS image of the kernel's whole tree of modules, to be mounted at `/lib/modules/RELEASE` in the guest, so that the guest's
    /// kernel can load what it comes to need; nil for a kernel without a tree.
    public func modulesImage(for kernel: Kernel) async throws -> String? {
        guard let tree = kernel.modules else { return nil }
        let name = ShortName.of(["1", kernel.identity, try FileStamp("\(tree)/modules.dep").text]) + ".erofs"
        return try await cache.file("modules", name) { _, path in
            try await HostProgram.run(
                "mkfs.erofs", ["--quiet", "--all-root", "-T0", "--exclude-path=build", "--exclude-path=source", path, tree],
                package: "erofs-utils")
        }
    }
}
