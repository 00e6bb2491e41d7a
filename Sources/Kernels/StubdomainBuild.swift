import CLinux
import Glibc
public import LinuxSystem
import StubdomainProtocol

/// Makes the image of a stubdomain from Debian's QEMU for Xen, which is installed here or downloaded: what it needs to run, our program as PID 1, and
/// a kernel with its modules. A second or two, and some for the download.
@Loop
public struct StubdomainBuild {
    /// The image's name in the library.
    public var name: String
    /// The program that becomes PID 1 (`hull-stub-init`).
    public var program: String

    public init(name: String, program: String) {
        self.name = name
        self.program = program
    }

    /// What the kernel must have, built in or as modules. It needs no drivers for disks and NICs: the guest's are served by the host.
    private static let modules = ["xen_privcmd", "xen_evtchn", "xen_gntdev", "xen_gntalloc"]
    /// What QEMU reads when it starts a machine of Xen's: the programs by which the guest's firmware starts its kernel, and the keyboards.
    private static let data = ["pvh.bin", "linuxboot.bin", "linuxboot_dma.bin", "kvmvapic.bin", "keymaps"]
    private static let package = "qemu-system-xen"

    /// Builds it with `kernel`, and adds it to `library`, in place of an older one of that name. `tell` hears one line for each step.
    public func run(
        into library: StubdomainLibrary, _ kernels: KernelStore, kernel: Kernel, tell: (String) -> Void
    ) async throws {
        guard KernelLibrary.isName(name) else {
            throw KernelError(
                "an image cannot be called \"\(name)\": letters, digits, _ . and - make a name, a letter or digit first")
        }
        try await library.folder.build { try await build(library.folder, kernels, kernel, tell) }
    }

    private func build(
        _ folder: BuildFolder, _ kernels: KernelStore, _ kernel: Kernel, _ tell: (String) -> Void
    ) async throws {
        var root = ""
        var source = "installed"
        if !exists(Stubdomain.program) {
            tell("downloading \(Self.package) with what it needs")
            root = "\(folder.staging)/root"
            try await download(into: root, folder.staging)
            source = "downloaded"
        }
        var archive = CPIOArchive()
        for folder in [
            "dev", "proc", "sys", "run", "tmp", "modules", "lib", "lib64", "usr", "usr/libexec", "usr/share", "usr/share/qemu",
        ] {
            archive.addFolder(folder)
        }
        try addPrograms(of: root, to: &archive)
        for name in Self.data { try add("\(root)/usr/share/qemu/\(name)", as: "usr/share/qemu/\(name)", to: &archive) }
        try await kernels.add(Self.modules, of: kernel, to: &archive)
        do { archive.addFile("init", try readFile(program), mode: 0o755) } catch {
            throw KernelError("the stubdomain's program \(program) is missing: build it with `make build`", cause: error)
        }
        archive.finish()
        let result = "\(folder.staging)/result"
        try makeDirectories(result, mode: 0o755)
        try writeFile("\(result)/ramdisk", archive.bytes, flags: O_WRONLY | O_CREAT, mode: 0o644)
        try writeFile("\(result)/kernel", try readFile(kernel.image), flags: O_WRONLY | O_CREAT, mode: 0o644)
        try writeFile("\(result)/facts", Array("\(kernel.release)\n\(source)\n".utf8), flags: O_WRONLY | O_CREAT, mode: 0o644)
        try folder.add(result, as: name, syncing: ["kernel", "ramdisk", "facts"])
        tell("a ramdisk of \(archive.bytes.count >> 20) MiB, with Linux \(kernel.release)")
    }

    /// QEMU, its libraries, and who loads them.
    private func addPrograms(of root: String, to archive: inout CPIOArchive) throws {
        let program = try readFile("\(root)\(Stubdomain.program)")
        guard let elf = DynamicELF(program), let loader = elf.interpreter else {
            throw KernelError("\(Stubdomain.program) is no program for this machine: install the package \(Self.package) again")
        }
        archive.addFile(String(Stubdomain.program.dropFirst()), program, mode: 0o755)
        archive.addFile("lib64/\(Self.name(loader))", try readFile(Self.place(loader, root)), mode: 0o755)
        var (waiting, seen) = (elf.needed, Set(elf.needed))
        seen.insert(Self.name(loader))
        var folders = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"] + elf.runPath
        while let name = waiting.popLast() {
            if name == Self.name(loader) { continue }
            guard let path = folders.map({ Self.place("\($0)/\(name)", root) }).first(where: { access($0, R_OK) == 0 }) else {
                throw KernelError("QEMU's library \(name) was not found: install the package \(Self.package) again")
            }
            let bytes = try readFile(path)
            archive.addFile("lib/\(name)", bytes, mode: 0o755)
            guard let library = DynamicELF(bytes) else { throw KernelError("\(path) is no library of this machine's") }
            folders += library.runPath.filter { !folders.contains($0) }
            for next in library.needed where seen.insert(next).inserted { waiting.append(next) }
        }
    }

    private static func name(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }

    /// Where `path` is in a tree of packages, in which `/lib64` and `/lib` may be links or not be there at all.
    private static func place(_ path: String, _ root: String) -> String {
        [path, "/usr\(path)"].map { root + $0 }.first { access($0, R_OK) == 0 } ?? root + path
    }

    /// A file, or a folder of files; links are followed.
    private func add(_ path: String, as name: String, to archive: inout CPIOArchive) throws {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw KernelError("\(path) is missing: install the package qemu-system-data")
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            return archive.addFile(name, try readFile(path), mode: 0o644)
        }
        archive.addFolder(name)
        for child in try listDirectory(path).sorted() { try add("\(path)/\(child)", as: "\(name)/\(child)", to: &archive) }
    }

    /// Has apt download the package and all that it needs, as for a machine on which nothing is installed, and unpacks it.
    private func download(into root: String, _ staging: String) async throws {
        let packages = "\(staging)/packages"
        try makeDirectories("\(packages)/partial", mode: 0o755)
        try makeDirectories(root, mode: 0o755)
        try writeFile("\(staging)/status", [], flags: O_WRONLY | O_CREAT, mode: 0o644)
        do {
            try await HostProgram.run(
                "apt-get",
                [
                    "-qq", "-y", "-o", "Dir::State::status=\(staging)/status", "-o", "Dir::Cache::archives=\(packages)", "-o",
                    "APT::Install-Recommends=0", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "--download-only",
                    "install", Self.package,
                ], package: "apt")
        } catch {
            throw KernelError(
                "\(Self.package) is neither installed nor could it be downloaded: install it with apt-get install \(Self.package)",
                cause: error)
        }
        for file in try listDirectory(packages).sorted() where file.hasSuffix(".deb") {
            try await HostProgram.run("dpkg-deb", ["-x", "\(packages)/\(file)", root], package: "dpkg")
        }
    }
}
