import CLinux
import Glibc
public import LinuxSystem

/// Makes a kernel from a distribution's source package, for the `KernelLibrary`. It takes 15 minutes of a processor and 3 GB of disk, which are
/// given back. The compilers are in a namespace of processes of their own, so that they end with us.
@Loop
public struct KernelBuild {
    /// The kernel's name in the library; nil: its release.
    public var name: String?
    /// A tar archive, packed or not, or a folder of Linux's source; nil: the newest `linux-source-*` archive in `sources`.
    public var source: String?
    /// The options that it gets beyond `allnoconfig`.
    public var configuration: String
    /// A folder of patches (`*.patch`, with a/ and b/ before the paths) that an archive's source gets, in the order of their names; what does not
    /// fit it is left out. Nil: none. A folder of source stays as it is.
    public var patches: String?
    /// Compilers at once.
    public var jobs: Int
    /// Where distributions put archives of source.
    public var sources = "/usr/src"

    public init(name: String? = nil, source: String? = nil, configuration: String, patches: String? = nil, jobs: Int) {
        self.name = name
        self.source = source
        self.configuration = configuration
        self.patches = patches
        self.jobs = jobs
    }

    /// What a build calls or includes, and Debian's package of it.
    private static let needs: [(name: String, package: String)] = [
        ("make", "make"), ("gcc", "gcc"), ("ld", "binutils"), ("flex", "flex"), ("bison", "bison"), ("bc", "bc"),
        ("perl", "perl"),
        ("tar", "tar"), ("patch", "patch"), ("xz", "xz-utils"), ("depmod", "kmod"), ("/usr/include/libelf.h", "libelf-dev"),
    ]

    /// Builds it and adds it to `library`; returns its name. `tell` hears one line for each step, and what the configuration asks for in vain.
    public func run(into library: KernelLibrary, tell: (String) -> Void) async throws -> String {
        if let name, !KernelLibrary.isName(name) {
            throw KernelError(
                "a kernel cannot be called \"\(name)\": letters, digits, _ . and - make a name, a letter or digit first, and not host or default"
            )
        }
        guard jobs > 0 else { throw KernelError("\(jobs) compilers at once make no kernel: give --jobs a number above 0") }
        if let patches, !Self.isFolder(patches) { throw KernelError("the folder of patches \(patches) is not there") }
        let missing = Self.needs.filter { $0.name.hasPrefix("/") ? !exists($0.name) : HostProgram.path($0.name) == nil }.map(
            \.package)
        guard missing.isEmpty else {
            throw KernelError(
                "packages that building a kernel needs are missing: install them with apt-get install \(missing.joined(separator: " "))"
            )
        }
        let archive = try source ?? newestSource()
        guard exists(archive) else { throw KernelError("the kernel's source \(archive) is not there") }
        let wanted = KernelConfiguration(try readText(configuration))
        return try await library.folder.build { try await build(archive, wanted, library, tell) }
    }

    private func newestSource() throws -> String {
        // No such folder, no source.
        let names = ((try? listDirectory(sources)) ?? []).filter { $0.hasPrefix("linux-source-") && $0.contains(".tar") }
        let newest = names.max { KernelRelease.isOlder(String($0.dropFirst(13)), than: String($1.dropFirst(13))) }
        guard let newest else {
            throw KernelError("there is no kernel source in \(sources): install the package linux-source-6.1, or give --source")
        }
        return "\(sources)/\(newest)"
    }

    private func build(
        _ archive: String, _ wanted: KernelConfiguration, _ library: KernelLibrary, _ tell: (String) -> Void
    ) async throws -> String {
        let staging = library.folder.staging
        let log = SharedDescriptor(try openFile("\(staging)/log", O_RDWR | O_CREAT | O_EXCL, mode: 0o644))
        func run(_ program: String, _ arguments: [String], _ failure: String) async throws {
            try await self.run(program, arguments, log: log, library, failure)
        }
        var tree = archive
        if !Self.isFolder(archive) {
            tell("unpacking \(archive)")
            tree = "\(staging)/source"
            try makeDirectories(tree, mode: 0o755)
            try await run("tar", ["-xf", archive, "-C", tree, "--strip-components=1"], "\(archive) cannot be unpacked")
            for patch in try patchFiles() {
                let apply = ["-d", tree, "-p1", "-s", "-f", "-i", patch]
                if try await status("patch", apply + ["--dry-run"], log, library).isSuccess {
                    try await run("patch", apply, "\(patch) could not be applied")
                } else {
                    tell("\(patch) does not fit this source, and is left out")
                }
            }
        }
        guard exists("\(tree)/Kbuild"), exists("\(tree)/arch/x86") else { throw KernelError("\(archive) is no source of Linux") }

        let output = "\(staging)/objects"
        try makeDirectories(output, mode: 0o755)
        func make(_ words: [String], _ failure: String) async throws {
            try await run("make", ["-C", tree, "O=\(output)", "ARCH=x86", "LOCALVERSION=-hull"] + words, failure)
        }
        tell("configuring with \(configuration)")
        try await make(
            ["KCONFIG_ALLCONFIG=\(configuration)", "allnoconfig"], "\(configuration) is no configuration for \(archive)")
        let got = KernelConfiguration(try readText("\(output)/.config"))
        if let lacking = got.lacking {
            throw KernelError("a kernel configured with \(configuration) starts no container: it lacks CONFIG_\(lacking)=y")
        }
        let vain = got.missing(of: wanted)
        if !vain.isEmpty { tell("not in this source, and left out: \(vain.joined(separator: " "))") }

        try await make(["prepare"], "the kernel could not be prepared")
        let release = try readText("\(output)/include/config/kernel.release").split(separator: "\n").first.map(String.init) ?? ""
        let name = name ?? release
        guard KernelRelease.isPlausible(release), KernelLibrary.isName(name) else {
            throw KernelError("the source's release \(release) is no name: give the kernel one")
        }
        guard !library.contains(name) else {
            throw KernelError(
                "there is a kernel \(name) already: remove it with hull kernel rm \(name), or give this one another name")
        }
        tell("compiling \(release), \(jobs) at once: some 15 minutes of a processor")
        try await make(["-j\(jobs)", "vmlinux", "modules"], "the kernel could not be compiled")
        let result = "\(staging)/result"
        try await make(
            ["modules_install", "INSTALL_MOD_PATH=\(staging)/installed", "INSTALL_MOD_STRIP=1"],
            "the kernel's modules could not be installed")
        try makeDirectories(result, mode: 0o755)
        // Links to the folders of this build, which are about to go.
        for link in ["build", "source"] { unlink("\(staging)/installed/lib/modules/\(release)/\(link)") }
        try checked("rename", "\(result)/modules") { rename("\(staging)/installed/lib/modules/\(release)", "\(result)/modules") }
        try checked("rename", "\(result)/vmlinux") { rename("\(output)/vmlinux", "\(result)/vmlinux") }
        try checked("rename", "\(result)/config") { rename("\(output)/.config", "\(result)/config") }
        let title = archive.split(separator: "/").last.map(String.init) ?? archive
        try writeFile("\(result)/facts", Array("\(release)\n\(title)\n".utf8), flags: O_WRONLY | O_CREAT)
        try library.folder.add(result, as: name, syncing: ["vmlinux", "config", "facts", "modules/modules.dep"])
        return name
    }

    private func patchFiles() throws -> [String] {
        guard let patches else { return [] }
        return try listDirectory(patches).filter { $0.hasSuffix(".patch") }.sorted().map { "\(patches)/\($0)" }
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Runs a program of the host whose output goes to `log`. What failed keeps the log, below the library.
    private func run(
        _ program: String, _ arguments: [String], log: SharedDescriptor, _ library: KernelLibrary, _ failure: String
    ) async throws {
        let status = try await status(program, arguments, log, library)
        if status.isSuccess { return }
        let kept = library.folder.entry(".log")
        try checked("rename", kept) { rename("\(library.folder.staging)/log", kept) }
        throw KernelError("\(failure) (\(program): \(status)): \(kept) says why")
    }

    private func status(_ program: String, _ arguments: [String], _ log: SharedDescriptor, _ library: KernelLibrary) async throws
        -> ExitStatus
    {
        var how = Spawn(
            HostProgram.path(program) ?? "/usr/bin/\(program)", arguments,
            environment: [
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin", "LC_ALL=C", "KBUILD_BUILD_USER=hull",
                "KBUILD_BUILD_HOST=hull",
                "TMPDIR=\(library.folder.staging)",
            ])
        // Its children are gone when it is, and it is when we are.
        how.namespaces = Int32(CLONE_NEWPID)
        how.deathSignal = SIGKILL
        how.descriptors = [(log, 1), (log, 2)]
        return try await how.run().status
    }
}
