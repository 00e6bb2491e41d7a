import Glibc
import LinuxSystem
import Testing

@testable import Kernels

/// Options of a kernel's build: pure.
struct KernelConfigurationTests {
    @Test func reading() {
        let some = KernelConfiguration(
            "# a remark\nCONFIG_A=y\nCONFIG_B=\"x=y\"\n# CONFIG_C is not set\nCONFIG_D=m\n\nCONFIG_E\n")
        #expect(some.options == ["A": "y", "B": "\"x=y\"", "C": "n", "D": "m"])
        #expect(some.has("A") && !some.has("B") && !some.has("C") && !some.has("D") && !some.has("Z"))
    }

    @Test func whatIsMissing() {
        let wanted = KernelConfiguration("CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=y\nCONFIG_D=64\n")
        #expect(KernelConfiguration("CONFIG_A=y\nCONFIG_C=m\nCONFIG_D=64\n").missing(of: wanted) == ["C"])
        #expect(KernelConfiguration("CONFIG_B=y\n").missing(of: wanted) == ["A", "B", "C", "D"])
    }

    /// The project's own configuration asks for all that no machine starts without, and for nothing twice.
    @Test func ours() throws {
        let path = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/kernel/hull.config"
        let text = try readText(path)
        let ours = KernelConfiguration(text)
        #expect(ours.lacking == nil)
        let names = text.split(separator: "\n").filter { $0.hasPrefix("CONFIG_") }.compactMap { $0.split(separator: "=").first }
        #expect(Set(names).count == names.count, "\(names.filter { name in names.count { $0 == name } > 1 })")
        #expect(KernelConfiguration(text.replacing("CONFIG_EROFS_FS=y", with: "CONFIG_EROFS_FS=m")).lacking == "EROFS_FS")
    }
}

/// Where kernels of our own are kept: with files that stand for kernels, which nothing boots.
@Suite(.serialized) struct KernelLibraryTests {
    init() { Loop.runInBackground() }

    @Loop private static func add(_ name: String, to library: KernelLibrary) throws {
        try makeDirectories("\(library.folder.entry(name))/modules")
        for (file, text) in [
            ("config", ""), ("facts", "6.1.9-hull\nlinux-source-6.1.tar.xz\n"), ("modules/modules.dep", ""),
            ("modules/modules.builtin", ""),
        ] { try writeFile("\(library.folder.entry(name))/\(file)", Array(text.utf8), flags: O_WRONLY | O_CREAT) }
        let elf = KernelELFTests.elf(notes: KernelELFTests.note("Xen\0", 18, [0, 0, 0, 1]))
        try writeFile("\(library.folder.entry(name))/vmlinux", elf, flags: O_WRONLY | O_CREAT)
    }

    @Test @Loop func choosing() async throws {
        try await KernelStoreTests.withFolder { folder in
            let library = KernelLibrary("\(folder)/kernels")
            #expect(try library.names() == [] && library.chosen == nil)
            #expect(throws: KernelError.self) { try library.choose("one") }
            try Self.add("one", to: library)
            try Self.add("two", to: library)
            #expect(try library.names() == ["one", "two"])
            #expect(try library.entry("one").release == "6.1.9-hull")
            try library.choose("one")
            try library.choose("two")
            #expect(library.chosen == "two")

            let store = KernelStore(cache: "\(folder)/cache", library: library, boot: "\(folder)/boot")
            let kernel = try await store.kernel()
            #expect(kernel.source == "\(folder)/kernels/two/vmlinux" && kernel.modules == "\(folder)/kernels/two/modules")
            #expect(try await store.kernel("one").source == "\(folder)/kernels/one/vmlinux")
            // The host's is asked for by its word, and there is none here.
            await #expect(throws: KernelError.self) { try await store.kernel("host") }

            // What was used goes: machines get the host's again.
            try library.remove("two")
            #expect(try library.names() == ["one"] && library.chosen == nil)
            try library.choose("one")
            try removeTree(library.folder.entry("one"))
            await #expect(throws: KernelError.self) { try await store.kernel() }
            try library.choose("host")
            #expect(library.chosen == nil)
        }
    }

    @Test @Loop func leftovers() async throws {
        try await KernelStoreTests.withFolder { folder in
            let library = KernelLibrary("\(folder)/kernels")
            try makeDirectories(library.folder.staging)
            let lock = try #require(try library.folder.attemptLock())
            try library.collectLeftovers()
            #expect(exists(library.folder.staging), "somebody is at work")
            withExtendedLifetime(lock) {}
        }
        try await KernelStoreTests.withFolder { folder in
            let library = KernelLibrary("\(folder)/kernels")
            try makeDirectories(library.folder.staging)
            try library.collectLeftovers()
            #expect(!exists(library.folder.staging))
        }
    }

    @Test(arguments: ["", "host", "default", ".x", "a/b", "-a", "ä", "a b", String(repeating: "a", count: 65)])
    func whatIsNoName(_ text: String) { #expect(!KernelLibrary.isName(text)) }

    @Test(arguments: ["6.1.192-hull", "a", "A_b.c-9"]) func whatIsAName(_ text: String) { #expect(KernelLibrary.isName(text)) }

    /// Patches that fit are applied in their order, others are left out and named, and what is built is the patched source.
    @Test @Loop func patches() async throws {
        try await KernelStoreTests.withFolder { folder in
            try makeDirectories("\(folder)/linux/arch/x86")
            try makeDirectories("\(folder)/patches")
            func write(_ path: String, _ text: String) throws {
                try writeFile("\(folder)/\(path)", Array(text.utf8), flags: O_WRONLY | O_CREAT)
            }
            try write("linux/Kbuild", "one\n")
            // Fails, and so ends the build, with the source's line in the log.
            try write("linux/Makefile", "%:\n\tcat Kbuild; false\n")
            try write("config", "CONFIG_64BIT=y\n")
            try write("patches/1.patch", "words\n--- a/Kbuild\n+++ b/Kbuild\n@@ -1 +1 @@\n-one\n+two\n")
            try write("patches/2.patch", "--- a/Kbuild\n+++ b/Kbuild\n@@ -1 +1 @@\n-one\n+three\n")
            try write("patches/3.patch", "--- a/Kbuild\n+++ b/Kbuild\n@@ -1 +1 @@\n-two\n+four\n")
            try write("patches/notes.txt", "no patch\n")
            let packed = try await Spawn("/usr/bin/tar", ["-cf", "\(folder)/linux.tar", "-C", folder, "linux"]).spawn().wait()
            try #require(packed.isSuccess)
            let library = KernelLibrary("\(folder)/kernels")
            let build = KernelBuild(
                source: "\(folder)/linux.tar", configuration: "\(folder)/config", patches: "\(folder)/patches", jobs: 1)
            var heard: [String] = []
            do {
                _ = try await build.run(into: library) { heard.append($0) }
                Issue.record("built")
            } catch {
                // A host without compilers says so first.
                guard !"\(error)".contains("apt-get install") else { return }
                #expect(try readText("\(library.folder.path)/.log").contains("four"), "\(error)")
            }
            #expect(
                heard.filter { $0.contains("does not fit") }.count == 1 && heard.contains { $0.contains("2.patch does not fit") },
                "\(heard)")
        }
    }

    /// What cannot be built is said in a sentence, before anything is, and leaves nothing.
    @Test @Loop func refusals() async throws {
        try await KernelStoreTests.withFolder { folder in
            let library = KernelLibrary("\(folder)/kernels")
            try writeFile("\(folder)/config", Array("CONFIG_64BIT=y\n".utf8), flags: O_WRONLY | O_CREAT)
            try makeDirectories("\(folder)/empty")
            func refuses(_ build: KernelBuild, _ words: String) async {
                do {
                    _ = try await build.run(into: library) { _ in }
                    Issue.record("\(words): built all the same")
                } catch { #expect("\(error)".contains(words) || "\(error)".contains("apt-get install"), "\(error)") }
                #expect(!exists(library.folder.staging))
            }
            let config = "\(folder)/config"
            await refuses(KernelBuild(name: "host", configuration: config, jobs: 1), "cannot be called")
            await refuses(KernelBuild(configuration: config, jobs: 0), "compilers at once")
            await refuses(KernelBuild(source: "\(folder)/nothing", configuration: config, jobs: 1), "is not there")
            await refuses(KernelBuild(source: "\(folder)/empty", configuration: config, jobs: 1), "no source of Linux")
            await refuses(KernelBuild(source: config, configuration: config, jobs: 1), "cannot be unpacked")
            await refuses(KernelBuild(configuration: config, patches: "\(folder)/none", jobs: 1), "folder of patches")
            var without = KernelBuild(configuration: config, jobs: 1)
            without.sources = "\(folder)/empty"
            await refuses(without, "no kernel source")
        }
    }
}
