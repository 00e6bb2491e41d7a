import Glibc
import Images
import LinuxSystem
import OCISpec
import Testing

@Suite("Archives and other sources", .enabled(if: missing == nil, "\(missing ?? "")"))
struct ArchiveTests {
    @Test("oci-archive: and docker-archive: give the same root; a file is read again when it changed")
    func archives() async throws {
        let scratch = try Scratch()
        var store = try scratch.store()
        let image = try await sampleImage("one")
        try image.write(to: "\(scratch.path)/layout")
        let oci = "\(scratch.path)/a.tar"
        try await command("/usr/bin/tar", "-C", "\(scratch.path)/layout", "-cf", oci, ".")
        let found = try await store.resolve(try ImageSource("oci-archive:a.tar", relativeTo: scratch.path))
        #expect(found.id == SHA256.digest(image.config))
        #expect(found.names.map(\.familiar) == ["oci-archive:\(oci)"])

        let docker = "\(scratch.path)/docker.tar"
        try await command(
            "/usr/bin/skopeo", "copy", "--quiet", "oci:\(scratch.path)/layout:latest", "docker-archive:\(docker):web:1")
        let saved = try await store.resolve(try ImageSource("docker-archive:\(docker):web:1", relativeTo: "/"))
        #expect(saved.rootPath == found.rootPath)
        #expect(saved.config.rootfs == found.config.rootfs)

        // The same file: nothing is started. Another one: it is read.
        let skopeo = store.tools.skopeo
        store.tools.skopeo = "/nonexistent"
        #expect(try await store.resolve(try ImageSource("oci-archive:\(oci)", relativeTo: "/")).id == found.id)
        store.tools.skopeo = skopeo
        let other = try await sampleImage("two")
        try other.write(to: "\(scratch.path)/other")
        try await command("/usr/bin/tar", "-C", "\(scratch.path)/other", "-cf", oci, ".")
        let changed = try await store.resolve(try ImageSource("oci-archive:\(oci)", relativeTo: "/"))
        #expect(changed.id == SHA256.digest(other.config))
        // The first image has lost its name, not its content.
        #expect(try !store.find(found.id.short).names.contains { $0.text.hasPrefix("oci-archive:") })
    }

    @Test("a root that was removed is built again from the layers")
    func rebuild() async throws {
        let scratch = try Scratch()
        var store = try scratch.store()
        let image = try await sampleImage("one")
        try image.write(to: "\(scratch.path)/layout")
        let source = try ImageSource("oci:\(scratch.path)/layout", relativeTo: "/")
        let found = try await store.resolve(source)
        let before = try rootData(found)
        unlink(found.rootPath)
        store.tools.skopeo = "/nonexistent"
        #expect(try rootData(try await store.resolve(source)) == before)
    }

    @Test("what is not there, damaged, ambiguous or no image has its own sentence")
    func wrong() async throws {
        let scratch = try Scratch()
        let store = try scratch.store()
        try put("\(scratch.path)/text.tar", Array("no archive".utf8))
        let image = try await sampleImage("one")
        try image.write(to: "\(scratch.path)/layout")
        try makeDirectories("\(scratch.path)/empty")
        for (source, code) in [
            ("oci:missing", ImageError.Code.unknownImage), ("oci-archive:missing.tar", .unknownImage),
            ("oci:empty", .unknownImage),
            ("docker-archive:missing.tar", .unknownImage), ("oci:layout:3", .unknownImage),
            ("oci-archive:text.tar", .invalidImage),
            ("docker-archive:text.tar", .invalidImage), ("rootfs:/", .badSource),
        ] {
            let error = await #expect(throws: ImageError.self) {
                try await store.resolve(try ImageSource(source, relativeTo: scratch.path))
            }
            print("\(source): \(error?.sentence ?? "")")
            #expect(error?.code == code, "\(source): \(error?.sentence ?? "")")
        }
        for bad in ["", "UPPER", "a:b:c", "oci:", "name@sha256:12", "a//b"] {
            #expect(throws: ImageError.self) { try ImageSource(bad, relativeTo: "/") }
        }
        try expectEmpty(store)
    }

    @Test("documents that contradict themselves")
    func documents() async throws {
        let scratch = try Scratch()
        let store = try scratch.store()
        var image = try await sampleImage("one")
        image.layers[1].mediaType = "application/vnd.in-toto+json"
        let error = await #expect(throws: ImageError.self) { try await scratch.resolve(image, store) }
        #expect(error?.code == .invalidImage, "\(error?.sentence ?? "")")
        try expectEmpty(store)
    }

    @Test("a missing program is named with its package")
    func programs() async throws {
        let scratch = try Scratch()
        var store = try scratch.store()
        let image = try await sampleImage("one")
        try image.write(to: "\(scratch.path)/layout")
        let source = try ImageSource("oci:\(scratch.path)/layout", relativeTo: "/")
        store.tools.makeErofs = "/nonexistent"
        let erofs = await #expect(throws: ImageError.self) { try await store.resolve(source) }
        #expect(erofs?.code == .missingTool && erofs?.sentence.contains("erofs-utils") == true)
        store.tools.skopeo = "/nonexistent"
        let skopeo = await #expect(throws: ImageError.self) { try await store.resolve(source) }
        #expect(skopeo?.code == .missingTool && skopeo?.sentence.contains("skopeo") == true)
        try expectEmpty(store)
    }

    @Test("a full disk, during the fetch, the unpacking and the building", arguments: [1, 3, 4])
    func diskFull(mebibytes: Int) async throws {
        // A file system of its own, mounted for the time of the test.
        let scratch = try Scratch()
        let mount = "\(scratch.path)/small"
        try makeDirectories(mount)
        try mountFilesystem("none", mount, type: "tmpfs", data: "size=\(mebibytes)m")
        defer { try? unmountFilesystem(mount) }  // the folder's removal would tell
        let store = try ImageStore(root: "\(mount)/store", tools: ImageTools(environment: environment()))
        var tar = TarFile()
        var state: UInt64 = 7
        tar.add(
            "noise", .file,
            (0..<150_000).map { _ in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return String(state >> 8, radix: 36)
            }.joined())
        var image = TestImage()
        try await image.add(gzip: tar.finished)
        print("layer of \(image.layers[0].bytes.count) bytes, \(tar.finished.count) unpacked")
        let error = await #expect(throws: ImageError.self) { try await scratch.resolve(image, store) }
        print("\(mebibytes) MiB: \(error?.description ?? "")")
        #expect(error?.code == .diskFull, "\(error?.description ?? "")")
        try expectEmpty(store)
    }
}
