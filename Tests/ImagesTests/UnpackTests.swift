import Glibc
import Images
import LinuxSystem
import OCISpec
import Testing

extension Scratch {
    /// Writes `image` as a layout and resolves it.
    func resolve(_ image: TestImage, _ store: ImageStore, notes: Notes? = nil) async throws -> Image {
        let path = "\(path)/layout-\(UInt32.random(in: 0 ... .max))"
        try image.write(to: path)
        return try await store.resolve(try ImageSource("oci:\(path)", relativeTo: "/")) { event in
            if case .note(let text) = event { notes?.add(text) }
        }
    }

    /// The tree of an image of these layers, each plain, as `path → listing line` of the EROFS.
    func unpack(_ layers: [TarFile]) async throws -> Unpacked {
        var image = TestImage()
        for layer in layers { image.add(layer) }
        let found = try await resolve(image, try store())
        try await extract(found, to: "\(path)/out")
        return Unpacked(image: found, root: "\(path)/out")
    }
}

struct Unpacked {
    var image: Image
    var root: String

    func status(_ path: String) -> stat? {
        var status = stat()
        return lstat("\(root)/\(path)", &status) == 0 ? status : nil
    }
    func text(_ path: String) throws -> String { try readText("\(root)/\(path)") }
    func names(_ path: String) throws -> [String] { try listDirectory("\(root)/\(path)") }
    func link(_ path: String) -> String {
        var target = [UInt8](repeating: 0, count: 4096)
        let length = target.withUnsafeMutableBytes { readlink("\(root)/\(path)", $0.baseAddress!, $0.count) }
        return String(decoding: target[..<max(0, length)], as: UTF8.self)
    }
}

@Suite("Layers become a root", .enabled(if: missing == nil, "\(missing ?? "")"))
struct UnpackTests {
    @Test("owners, modes, times, links and pipes stay as the layer has them")
    func attributes() async throws {
        var tar = TarFile()
        tar.addFolder("usr/", mode: 0o750, uid: 12, gid: 34, time: 1_000_000_000)
        tar.add("usr/su", .file, "x", mode: 0o4755, uid: 100_000, gid: 70_000, time: 1_111_111_111)
        tar.add("usr/hard", .hardLink, link: "usr/su")
        tar.add("usr/soft", .link, link: "/etc/absolute", uid: 7, gid: 8, time: 1_222_222_222)
        tar.add("usr/pipe", .fifo, mode: 0o622)
        tar.add("tmp", .folder, mode: 0o1777)
        tar.add("usr/näme \u{1F433}", .file, "utf8", pax: [("path", "usr/näme \u{1F433}")])
        let scratch = try Scratch()
        var image = TestImage()
        image.add(tar)
        let found = try await scratch.resolve(image, try scratch.store())
        guard
            let listing = try await inside(
                found,
                "stat -c '%n %f %u %g %Y %h' usr usr/su usr/hard usr/soft usr/pipe tmp && readlink usr/soft && cat usr/n* && test usr/su -ef usr/hard && echo same"
            )
        else { return }
        #expect(
            listing == """
                usr 41e8 12 34 1000000000 2
                usr/su 89ed 100000 70000 1111111111 2
                usr/hard 89ed 100000 70000 1111111111 2
                usr/soft a1ff 7 8 1222222222 1
                usr/pipe 1192 0 0 1700000000 1
                tmp 43ff 0 0 1700000000 2
                /etc/absolute
                utf8same

                """)
    }

    @Test("whiteouts hide what lower layers have, and nothing else")
    func whiteouts() async throws {
        var lower = TarFile()
        for folder in ["a/", "a/deep/", "b/", "b/sub/", "c/"] { lower.addFolder(folder) }
        for file in ["a/gone", "a/kept", "a/deep/gone", "b/old", "b/sub/old", "c/again"] { lower.add(file, .file, "lower") }
        var upper = TarFile()
        upper.add("a/.wh.gone")
        upper.add("a/.wh.deep")
        upper.add("a/.wh.never-was")
        // The order within a layer means nothing: what it adds stays beside its own opaque mark.
        upper.addFolder("b/")
        upper.add("b/new", .file, "upper")
        upper.addFolder("b/sub/")
        upper.add("b/sub/new", .file, "upper")
        upper.add("b/.wh..wh..opq")
        upper.add("c/again", .file, "upper")
        upper.add("c/.wh.again")
        upper.add("nowhere/.wh.x")
        upper.add(".wh..wh.plnk/1.2", .file, "aufs")
        let found = try await Scratch().unpackKeeping([lower, upper])
        #expect(try found.names("") == [".wh..wh.plnk", "a", "b", "c"])
        #expect(try found.names("a") == ["kept"])
        #expect(try found.names("b") == ["new", "sub"])
        #expect(try found.names("b/sub") == ["new"])
        #expect(try found.text("c/again") == "upper")
    }

    @Test("an upper layer's entry replaces a lower one of any kind")
    func replacing() async throws {
        var lower = TarFile()
        lower.addFolder("folder-to-file/")
        lower.add("folder-to-file/x", .file, "x")
        lower.add("file-to-folder", .file, "x")
        lower.addFolder("target/")
        lower.add("link-to-folder", .link, link: "target")
        lower.addFolder("stays/", mode: 0o700)
        lower.add("stays/x", .file, "x")
        lower.add("one", .file, "one")
        lower.add("two", .hardLink, link: "one")
        var upper = TarFile()
        upper.add("folder-to-file", .file, "now a file")
        upper.addFolder("file-to-folder/")
        upper.addFolder("link-to-folder/")
        upper.add("link-to-folder/y", .file, "y")
        upper.addFolder("stays/", mode: 0o755)
        upper.add("one", .file, "changed")
        let found = try await Scratch().unpackKeeping([lower, upper])
        #expect(try found.text("folder-to-file") == "now a file")
        #expect(try found.names("file-to-folder") == [])
        #expect(try found.names("link-to-folder") == ["y"])
        #expect(try found.names("target") == [])
        #expect(try found.names("stays") == ["x"])
        #expect(found.status("stays").map { $0.st_mode } == 0o40755)
        // A new file, not a new content of the shared one.
        #expect(try found.text("two") == "one")
    }

    @Test("a link to a folder is followed inside the root only, as in usr-merged images")
    func linkedParents() async throws {
        var lower = TarFile()
        lower.addFolder("usr/lib/")
        lower.add("lib", .link, link: "usr/lib")
        lower.add("absolute", .link, link: "/usr/lib")
        lower.add("climbing", .link, link: "../../../../usr/lib")
        var upper = TarFile()
        upper.add("lib/a", .file, "a")
        upper.add("absolute/b", .file, "b")
        upper.add("climbing/c", .file, "c")
        let found = try await Scratch().unpackKeeping([lower, upper])
        #expect(try found.names("usr/lib") == ["a", "b", "c"])
        #expect(found.link("lib") == "usr/lib")
    }

    @Test("gzip, zstd and plain layers, also empty ones, and names with ./ or / before them")
    func compressions() async throws {
        let scratch = try Scratch()
        var image = TestImage()
        for (name, index) in [("./one", 0), ("/two", 1), ("three", 2)] {
            var tar = TarFile()
            tar.add(name, .file, String(repeating: name, count: 10_000))
            switch index {
            case 0: try await image.add(gzip: tar.finished)
            case 1: try await image.add(zstd: tar.finished)
            default: image.add(tar)
            }
        }
        image.add(TarFile())
        let found = try await scratch.resolve(image, try scratch.store())
        try await extract(found, to: "\(scratch.path)/out")
        #expect(try listDirectory("\(scratch.path)/out") == ["one", "three", "two"])
        #expect(found.size == Int64((5 + 4 + 5) * 10_000))
    }

    @Test("extended attributes: a file's capability and the user's stay, those that steer a guest's overlay go")
    func extendedAttributes() async throws {
        let scratch = try Scratch()
        var tar = TarFile()
        let capability = "\u{1}\u{0}\u{0}\u{2}\u{0}\u{20}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"
        tar.add(
            "ping", .file, "x", mode: 0o755,
            pax: [
                ("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.note", "hello"),
                ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ])
        var image = TestImage()
        image.add(tar)
        let found = try await scratch.resolve(image, try scratch.store())
        guard let listing = try await inside(found, "tar --xattrs --xattrs-include='*' -cf - ping") else { return }
        #expect(listing.contains("SCHILY.xattr.security.capability="))
        #expect(listing.contains("SCHILY.xattr.user.note=hello"))
        #expect(!listing.contains("trusted.overlay"))
    }

    @Test("a sparse file stays sparse, in the tree and in the image")
    func sparse() async throws {
        let scratch = try Scratch()
        try makeDirectories("\(scratch.path)/files")
        let holes = try openFile("\(scratch.path)/files/holes", O_RDWR | O_CREAT)
        try checked("write") { pwrite(holes.raw, "end", 3, 300 << 20) }
        let bytes = try await command("/usr/bin/tar", "-C", "\(scratch.path)/files", "--sparse", "-cf", "-", "holes")
        #expect(bytes.count < 1 << 20)
        var image = TestImage()
        image.add(plain: bytes)
        let found = try await scratch.resolve(image, try scratch.store())
        #expect(found.size == (300 << 20) + 3)
        var status = stat()
        stat(found.rootPath, &status)
        #expect(status.st_blocks * 512 < 16 << 20)
        #expect(status.st_size == Int(ImageStore.rootSize))
        try await extract(found, to: "\(scratch.path)/out")
        try await command("/usr/bin/cmp", "\(scratch.path)/out/holes", "\(scratch.path)/files/holes")
    }

    @Test("device nodes are left out, with a note")
    func devices() async throws {
        let scratch = try Scratch()
        var tar = TarFile()
        tar.addFolder("dev/")
        tar.add("dev/sda", .blockDevice)
        tar.add("dev/null", .characterDevice)
        tar.add("dev/kept", .file, "x")
        var image = TestImage()
        image.add(tar)
        let notes = Notes()
        let found = try await scratch.resolve(image, try scratch.store(), notes: notes)
        try await extract(found, to: "\(scratch.path)/out")
        #expect(try listDirectory("\(scratch.path)/out/dev") == ["kept"])
        #expect(notes.all.contains { $0.contains("2 device nodes were left out") })
    }
}

/// The output of a shell line in the mounted root, in a mount namespace of its own; nil, with a printed reason, where this kernel
/// cannot mount EROFS.
func inside(_ image: Image, _ line: String) async throws -> String? {
    let script = "mount -t erofs -o loop,ro \"$0\" /mnt || exit 77; cd /mnt; \(line)"
    let output = try await Spawn("/usr/bin/unshare", ["-m", "/bin/sh", "-c", script, image.rootPath]).run()
    if output.status == .code(77) {
        print("not looked into \(image.rootPath), because this kernel cannot mount EROFS: \(output.complaint)")
        return nil
    }
    #expect(output.status.isSuccess, "\(output.complaint)")
    return String(decoding: output.standardOutput, as: UTF8.self)
}

extension Scratch {
    /// As `unpack`; the scratch folder lives as long as the test, which holds the result.
    func unpackKeeping(_ layers: [TarFile]) async throws -> Kept {
        Kept(scratch: self, unpacked: try await unpack(layers))
    }
}

/// An unpacked root and the folder it is in.
@dynamicMemberLookup
struct Kept {
    var scratch: Scratch
    var unpacked: Unpacked
    subscript<T>(dynamicMember path: KeyPath<Unpacked, T>) -> T { unpacked[keyPath: path] }
    func status(_ path: String) -> stat? { unpacked.status(path) }
    func text(_ path: String) throws -> String { try unpacked.text(path) }
    func names(_ path: String) throws -> [String] { try unpacked.names(path) }
    func link(_ path: String) -> String { unpacked.link(path) }
}
