import Glibc
import Images
import LinuxSystem
import OCISpec
import Testing

@Suite("Pulls from a registry", .enabled(if: Registry.missing == nil, "\(Registry.missing ?? "")"))
struct RegistryTests {
    @Test("a pull, with progress; then no program is started; a second image fetches only its own layer")
    func pull() async throws {
        let scratch = try Scratch()
        let registry = try await Registry.start(scratch)
        let one = try await sampleImage("one", bytes: 500_000)
        let two = try await sampleImage("two", bytes: 500_000)
        try one.write(to: "\(scratch.path)/one")
        try two.write(to: "\(scratch.path)/two")
        try await registry.push("\(scratch.path)/one", "some/image:1")
        try await registry.push("\(scratch.path)/two", "some/image:2")
        var store = try registry.store(scratch)
        let events = Events()
        let source = try Registry.source("some/image:1")
        let found = try await store.resolve(source, progress: events.take)
        #expect(found.id == SHA256.digest(one.config))
        #expect(found.manifest == SHA256.digest(one.manifest))
        #expect(found.names.map(\.familiar) == ["127.0.0.1:5000/some/image:1"])
        #expect(found.names[0].digest == found.manifest)
        #expect(events.layersToFetch == 2)
        #expect(events.last == .done(id: found.id, manifest: found.manifest, fresh: true))

        let second = Events()
        let other = try await store.resolve(try Registry.source("some/image:2"), progress: second.take)
        #expect(second.layersToFetch == 1)
        #expect(other.layers[0] == found.layers[0])

        // Up to date: asked, nothing fetched.
        let third = Events()
        _ = try await store.resolve(source, pull: .always, progress: third.take)
        #expect(third.all == [.done(id: found.id, manifest: found.manifest, fresh: false)])

        try await registry.stop()
        store.tools.skopeo = "/nonexistent"
        store.tools.unpack = "/nonexistent"
        let clock = ContinuousClock()
        let time = try await clock.measure { _ = try await store.resolve(source) }
        print("resolve of an image that is here: \(time)")
        #expect(time < .milliseconds(50))
        #expect(try await store.resolve(source, pull: .never).id == found.id)
        #expect(try store.list().map(\.id.hex).sorted() == [found.id.hex, other.id.hex].sorted())
        #expect(try store.find(String(found.id.hex.prefix(12))).id == found.id)
        #expect(try store.find("127.0.0.1:5000/some/image:2").id == other.id)
    }

    @Test("Docker's own manifests, byte for byte; and a pull by digest")
    func docker() async throws {
        let scratch = try Scratch()
        let registry = try await Registry.start(scratch)
        let image = try await sampleImage("docker")
        try image.write(to: "\(scratch.path)/image")
        try await registry.push("\(scratch.path)/image", "docker:v2", ["--format", "v2s2"])
        let store = try registry.store(scratch)
        let found = try await store.resolve(try Registry.source("docker:v2"))
        let raw = try store.rawConfig(found)
        #expect(SHA256.digest(raw) == found.id)
        let byDigest = try await store.resolve(try Registry.source("docker@\(found.manifest)"))
        #expect(byDigest.id == found.id)
        let images = try store.list()
        #expect(images.count == 1 && images[0].names.count == 2)
        // The image goes with its last name.
        #expect(try store.remove("127.0.0.1:5000/docker:v2", users: { _ in ["web"] }).deleted == [])
        let error = #expect(throws: ImageError.self) { try store.remove(found.id.short, users: { _ in ["web"] }) }
        #expect(error?.code == .inUse && error?.sentence.contains("web") == true)
        #expect(try store.remove(found.id.short, users: { _ in [] }).deleted == [found.id])
        try expectEmpty(store)
    }

    @Test("the host's platform is picked from an index; an image without one is refused")
    func platforms() async throws {
        let scratch = try Scratch()
        let registry = try await Registry.start(scratch)
        var foreign = try await sampleImage("foreign")
        foreign.architecture = "s390x"
        let own = try await sampleImage("own")
        try TestImage.write([foreign, own], to: "\(scratch.path)/both")
        try foreign.write(to: "\(scratch.path)/foreign")
        try TestImage.write([foreign], to: "\(scratch.path)/index")
        try await registry.push("\(scratch.path)/both", "multi")
        try await registry.push("\(scratch.path)/foreign", "foreign")
        try await registry.push("\(scratch.path)/index", "foreign:index")
        let store = try registry.store(scratch)
        let found = try await store.resolve(try Registry.source("multi"))
        #expect(found.id == SHA256.digest(own.config))
        #expect(found.names[0].digest != found.manifest)
        // The same without a registry between.
        let local = try await store.resolve(try ImageSource("oci:\(scratch.path)/both:latest", relativeTo: "/"))
        #expect(local.id == found.id)
        for name in ["foreign", "foreign:index"] {
            let error = await #expect(throws: ImageError.self) { try await store.resolve(try Registry.source(name)) }
            #expect(error?.code == .noPlatform)
            #expect(error?.sentence.contains("linux/s390x") == true, "\(error?.sentence ?? "")")
        }
    }

    @Test("unknown images and tags, and a registry that is not there")
    func unknown() async throws {
        let scratch = try Scratch()
        let registry = try await Registry.start(scratch)
        let image = try await sampleImage("x")
        try image.write(to: "\(scratch.path)/image")
        try await registry.push("\(scratch.path)/image", "known:1")
        let store = try registry.store(scratch)
        for (name, code, says) in [
            ("unknown:1", ImageError.Code.unknownImage, "has no image"), ("known:2", .unknownImage, "check the name and the tag"),
            ("known@sha256:\(String(repeating: "0", count: 64))", .unknownImage, "has no image"),
        ] {
            let error = await #expect(throws: ImageError.self) { try await store.resolve(try Registry.source(name)) }
            #expect(error?.code == code, "\(error?.sentence ?? "")")
            #expect(error?.sentence.contains(says) == true, "\(error?.sentence ?? "")")
        }
        let never = await #expect(throws: ImageError.self) {
            try await store.resolve(try Registry.source("known:1"), pull: .never)
        }
        #expect(never?.code == .notHere)
        try await registry.stop()
        let error = await #expect(throws: ImageError.self) { try await store.resolve(try Registry.source("known:1")) }
        #expect(error?.code == .unreachable, "\(error?.sentence ?? "")")
        try expectEmpty(store)
    }

    @Test("a registry whose blobs were changed or cut")
    func corrupted() async throws {
        for kind in ["changed", "cut", "manifest"] {
            let scratch = try Scratch()
            let registry = try await Registry.start(scratch)
            let image = try await sampleImage("x", bytes: 100_000)
            try image.write(to: "\(scratch.path)/image")
            try await registry.push("\(scratch.path)/image", "bad:1")
            let digest = kind == "manifest" ? SHA256.digest(image.manifest) : image.layers[0].digest
            let file = "\(registry.data)/docker/registry/v2/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)/data"
            var bytes = try readFile(file)
            if kind == "cut" { bytes.removeLast(bytes.count / 2) } else { bytes[bytes.count / 2] ^= 0x01 }
            try put(file, bytes)
            let store = try registry.store(scratch)
            let error = await #expect(throws: ImageError.self) { try await store.resolve(try Registry.source("bad:1")) }
            print("a \(kind) blob: \(error?.sentence ?? "")")
            #expect(
                error.map { [.digestMismatch, .invalidImage, .unreachable].contains($0.code) } == true, "\(error?.sentence ?? "")"
            )
            try expectEmpty(store)
        }
    }

    @Test("several pulls at once, of the same image and of others that share its layers")
    func concurrent() async throws {
        let scratch = try Scratch()
        let registry = try await Registry.start(scratch)
        for index in 0..<3 {
            let image = try await sampleImage("image \(index)", bytes: 300_000)
            try image.write(to: "\(scratch.path)/\(index)")
            try await registry.push("\(scratch.path)/\(index)", "many:\(index)")
        }
        // Two values of one store, as two processes have it.
        let stores = [try registry.store(scratch), try registry.store(scratch)]
        let found = try await withThrowingTaskGroup(of: (Int, Image).self) { group in
            for index in 0..<3 {
                for store in stores {
                    group.addTask { (index, try await store.resolve(try Registry.source("many:\(index)"))) }
                }
            }
            return try await group.reduce(into: [Int: Set<String>]()) { $0[$1.0, default: []].insert($1.1.rootPath) }
        }
        #expect(found.count == 3 && found.values.allSatisfy { $0.count == 1 })
        let store = stores[0]
        #expect(try listDirectory("\(store.root)/roots").count == 3)
        #expect(try listDirectory("\(store.root)/ingest") == [])
        for (index, root) in found {
            try await command("/usr/bin/fsck.erofs", "--extract=\(scratch.path)/out\(index)", root.first!)
            #expect(try readText("\(scratch.path)/out\(index)/own") == "image \(index)")
        }
        #expect(try store.collectGarbage() == 0)
    }
}
