import CLinux
import Glibc
public import LinuxSystem

/// Kernels of Hull's own making, which `KernelBuild` adds, below one folder: `NAME/vmlinux`, `NAME/config`, `NAME/modules`, and `default`, a
/// link to the one that machines get which ask for none. A kernel comes and goes in one step, by a rename.
@Loop
public struct KernelLibrary {
    /// The name that stands for the host's best kernel, where one of ours was chosen before.
    public nonisolated static let host = "host"
    nonisolated let folder: BuildFolder

    /// The library in the folder `path`, which need not be there yet.
    public nonisolated init(_ path: String) { folder = BuildFolder(path: path, command: "hull kernel build") }

    /// One of the library's kernels.
    public struct Entry: Sendable {
        public var name: String
        /// What `uname -r` says in it.
        public var release: String
        /// The file name of the source that it was built from.
        public var source: String
        /// Bytes on the disk: image and modules.
        public var bytes: UInt64
        /// When it was built, in seconds since 1970.
        public var built: Int
    }

    nonisolated private var link: String { folder.entry("default") }

    /// Letters, digits, `_`, `.` and `-`, a letter or digit first, at most 64; and none of the words that mean something else.
    nonisolated static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, text.utf8.count <= 64, text != host, text != "default" else { return false }
        func isPlain(_ byte: UInt8) -> Bool { (48...57).contains(byte) || (65...90).contains(byte & 0xDF) }
        return isPlain(first) && text.utf8.allSatisfy { isPlain($0) || [45, 46, 95].contains($0) }
    }

    /// The names of all kernels, sorted.
    public nonisolated func names() throws -> [String] {
        guard exists(folder.path) else { return [] }
        return try listDirectory(folder.path).filter { Self.isName($0) && contains($0) }.sorted()
    }

    /// Whether there is a kernel of that name.
    public nonisolated func contains(_ name: String) -> Bool { Self.isName(name) && exists("\(folder.entry(name))/vmlinux") }

    /// The name of the kernel that machines get; nil for the host's best. The kernel need not be there any more.
    public nonisolated var chosen: String? { readLink(link) }

    /// Lets machines that ask for no kernel have the one called `name` from now on; `host` is the host's best.
    public func choose(_ name: String) throws {
        if name == Self.host {
            if unlink(link) != 0, errno != ENOENT { throw SystemError("remove", link) }
            return
        }
        try require(name)
        let beside = folder.entry(".default")
        unlink(beside)
        try checked("make a link", beside) { symlink(name, beside) }
        try checked("rename", link) { rename(beside, link) }
    }

    /// What is known of the kernel called `name`.
    public func entry(_ name: String) throws -> Entry {
        try require(name)
        let place = folder.entry(name)
        let facts = try readText("\(place)/facts").split(separator: "\n").map(String.init)
        guard facts.count == 2, KernelRelease.isPlausible(facts[0]) else {
            throw KernelError("the kernel \(name) is damaged: remove it with hull kernel rm \(name), and build it again")
        }
        var status = stat()
        try checked("look at", place) { stat("\(place)/vmlinux", &status) }
        return Entry(
            name: name, release: facts[0], source: facts[1], bytes: try Self.size(of: place), built: Int(status.st_mtim.tv_sec))
    }

    /// Forgets the kernel called `name`. Machines that run it go on; if it was the chosen one, machines get the host's best again.
    public func remove(_ name: String) throws {
        try require(name)
        try folder.remove(name) { if chosen == name { try choose(Self.host) } }
    }

    /// Takes back what a killed build or removal left. Does nothing while one is at work.
    public nonisolated func collectLeftovers() throws { try folder.collectLeftovers() }

    private func require(_ name: String) throws {
        guard contains(name) else {
            let known = try names()
            throw KernelError(
                "there is no kernel \(name): "
                    + (known.isEmpty
                        ? "build one with hull kernel build" : "hull kernel ls shows \(known.joined(separator: ", "))"))
        }
    }

    private static func size(of path: String) throws -> UInt64 {
        var status = stat()
        try checked("look at", path) { lstat(path, &status) }
        var bytes = UInt64(status.st_blocks) * 512
        if status.st_mode & S_IFMT == S_IFDIR {
            for name in try listDirectory(path) { bytes += try size(of: "\(path)/\(name)") }
        }
        return bytes
    }
}
