import CLinux
import Glibc
public import LinuxSystem

/// Images of stubdomains, which `StubdomainBuild` adds, below one folder: `NAME/kernel`, `NAME/ramdisk`, `NAME/facts`. An image comes and goes in one
/// step, by a rename. Machines get the newest.
@Loop
public struct StubdomainLibrary {
    nonisolated let folder: BuildFolder

    /// The library in the folder `path`, which need not be there yet.
    public nonisolated init(_ path: String) { folder = BuildFolder(path: path, command: "hull stubdomain build") }

    /// One of the library's images.
    public struct Entry: Sendable, Hashable {
        public var name: String
        /// The files that a stubdomain boots.
        public var kernel: String
        public var ramdisk: String
        /// The release of its kernel.
        public var release: String
        /// Where its programs come from.
        public var source: String
        /// Bytes on the disk.
        public var bytes: UInt64
        /// When it was built, in seconds since 1970.
        public var built: Int
    }

    /// All images, the newest first.
    public func entries() throws -> [Entry] {
        guard exists(folder.path) else { return [] }
        return try listDirectory(folder.path).filter { KernelLibrary.isName($0) && exists("\(folder.entry($0))/facts") }
            .map { try entry($0) }.sorted { ($0.built, $0.name) > ($1.built, $1.name) }
    }

    private func entry(_ name: String) throws -> Entry {
        let folder = folder.entry(name)
        let facts = try readText("\(folder)/facts").split(separator: "\n").map(String.init)
        var (kernel, ramdisk) = (stat(), stat())
        guard facts.count == 2, KernelRelease.isPlausible(facts[0]), stat("\(folder)/kernel", &kernel) == 0,
            stat("\(folder)/ramdisk", &ramdisk) == 0
        else {
            throw KernelError(
                "the stubdomain's image \(name) is damaged: remove it with hull stubdomain rm \(name), and build it again")
        }
        return Entry(
            name: name, kernel: "\(folder)/kernel", ramdisk: "\(folder)/ramdisk", release: facts[0], source: facts[1],
            bytes: UInt64(kernel.st_blocks + ramdisk.st_blocks) * 512, built: Int(ramdisk.st_mtim.tv_sec))
    }

    /// The image that machines get. Throws when there is none.
    public func newest() throws -> Entry {
        guard let newest = try entries().first else {
            throw KernelError("there is no image for the domain that a device model runs in: make one with hull stubdomain build")
        }
        return newest
    }

    /// Forgets the image called `name`. Domains that run from it go on.
    public func remove(_ name: String) throws {
        guard KernelLibrary.isName(name), exists(folder.entry(name)) else {
            throw KernelError("there is no stubdomain's image \(name): hull stubdomain ls shows what there is")
        }
        try folder.remove(name)
    }

    /// Takes back what a killed build or removal left. Does nothing while one is at work.
    public nonisolated func collectLeftovers() throws { try folder.collectLeftovers() }
}
