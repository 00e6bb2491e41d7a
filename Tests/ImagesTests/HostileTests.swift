import Glibc
import Images
import LinuxSystem
import OCISpec
import Testing

/// What is left in a store after a failure: nothing.
func expectEmpty(_ store: ImageStore, _ location: SourceLocation = #_sourceLocation) throws {
    for folder in ["blobs/sha256", "blobs/sha512", "roots", "images", "names", "ingest"] {
        #expect(try listDirectory("\(store.root)/\(folder)") == [], "\(folder)", sourceLocation: location)
    }
}

@Suite("Layers that lie or attack", .enabled(if: missing == nil, "\(missing ?? "")"))
struct HostileTests {
    struct Attack: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var code: ImageError.Code
        var says: String
        var layers: @Sendable () -> [TarFile]

        init(_ name: String, _ code: ImageError.Code, _ says: String, _ build: @escaping @Sendable (inout TarFile) -> Void) {
            testDescription = name
            self.code = code
            self.says = says
            layers = {
                var tar = TarFile()
                build(&tar)
                return [tar]
            }
        }
    }

    static let attacks: [Attack] = [
        Attack("a name that climbs", .hostileLayer, "\"../../escaped\" climbs") { $0.add("../../escaped", .file, "x") },
        Attack("a name that climbs in its middle", .hostileLayer, "climbs") { $0.add("a/../../escaped", .file, "x") },
        Attack("a hard link that climbs", .hostileLayer, "leads out of the root") {
            $0.add("passwd", .hardLink, link: "../../../etc/passwd")
        },
        Attack("a hard link to the host", .hostileLayer, "not in the image") { $0.add("passwd", .hardLink, link: "/etc/passwd") },
        Attack("a hard link through a link that climbs", .hostileLayer, "not in the image") {
            $0.add("up", .link, link: "../../../../../../etc")
            $0.add("passwd", .hardLink, link: "up/passwd")
        },
        Attack("a hard link to a folder", .hostileLayer, "is a folder") {
            $0.addFolder("d/")
            $0.add("h", .hardLink, link: "d")
        },
        Attack("a parent that is a dangling link", .hostileLayer, "a link that leads nowhere") {
            $0.add("up", .link, link: "/var/tmp")
            $0.add("up/escaped", .file, "x")
        },
        Attack("a parent that is a file", .hostileLayer, "is a file") {
            $0.add("f", .file, "x")
            $0.add("f/x", .file, "x")
        },
        Attack("a parent that is a loop", .hostileLayer, "loop of links") {
            $0.add("a", .link, link: "b")
            $0.add("b", .link, link: "a")
            $0.add("a/x", .file, "x")
        },
        Attack("a whiteout of the folder above", .hostileLayer, "whiteout of nothing") { $0.add("a/.wh...") },
        Attack("a root that is a link", .hostileLayer, "the root something else") { $0.add("./", .link, link: "/etc") },
        Attack("a name beyond 255 bytes", .hostileLayer, "too long") {
            let name = String(repeating: "n", count: 300)
            $0.add("short", .file, "x", pax: [("path", name)])
        },
        Attack("a huge file that is only a header", .tooBig, "over 1048576 bytes") {
            $0.add("huge", .file, "x", size: 0o7777777777)
        },
        Attack("many small files", .tooBig, "more than 300 entries") { for n in 0..<400 { $0.add("f\(n)") } },
        Attack("a deep tree", .tooBig, "more than 250 folders deep") {
            var path = ""
            for _ in 0..<260 {
                path += "d/"
                $0.add("x", .folder, mode: 0o755, pax: [("path", path)])
            }
        },
        Attack("truncated inside a file", .damagedLayer, "inside \"cut\"") { $0.add("cut", .file, "x", size: 100_000) },
    ]

    @Test("is refused with a sentence that names the layer, and leaves nothing", arguments: attacks)
    func refused(attack: Attack) async throws {
        let scratch = try Scratch()
        var store = try scratch.store()
        store.limits.bytes = 1 << 20
        store.limits.entries = 300
        var image = TestImage()
        for layer in attack.layers() { image.add(layer) }
        let error = await #expect(throws: ImageError.self) { try await scratch.resolve(image, store) }
        #expect(error?.code == attack.code)
        #expect(error?.sentence.contains(attack.says) == true, "\(error?.sentence ?? "")")
        #expect(error?.sentence.contains("layer 1 of 1") == true, "\(error?.sentence ?? "")")
        try expectEmpty(store)
        #expect(!exists("/var/tmp/escaped") && !exists("/escaped"))
    }

    @Test("a huge sparse file, as tar itself writes it")
    func hugeSparse() async throws {
        let scratch = try Scratch()
        let store = try scratch.store()
        try put("\(scratch.path)/holes", [])
        try checked("truncate") { truncate("\(scratch.path)/holes", 1 << 40) }
        var image = TestImage()
        image.add(plain: try await command("/usr/bin/tar", "-C", scratch.path, "--sparse", "-cf", "-", "holes"))
        let error = await #expect(throws: ImageError.self) { try await scratch.resolve(image, store) }
        #expect(error?.code == .tooBig, "\(error?.sentence ?? "")")
        try expectEmpty(store)
    }

    @Test("a layer cut short, compressed or not, and one that is no tar")
    func damaged() async throws {
        var tar = TarFile()
        tar.add("f", .file, (0..<200_000).map { "\($0 &* 2_654_435_761)" }.joined())
        let whole = tar.finished
        for kind in ["gzip", "zstd", "garbage"] {
            let scratch = try Scratch()
            let store = try scratch.store()
            var image = TestImage()
            switch kind {
            case "gzip": try await image.add(gzip: whole)
            case "zstd": try await image.add(zstd: whole)
            default: image.add(plain: Array("this is no archive".utf8))
            }
            if kind != "garbage" {
                image.layers[0].bytes = Array(image.layers[0].bytes.dropLast(image.layers[0].bytes.count / 3))
            }
            let error = await #expect(throws: ImageError.self) { try await scratch.resolve(image, store) }
            #expect(error?.code == .damagedLayer, "\(kind): \(error?.sentence ?? "")")
            try expectEmpty(store)
        }
    }

    @Test("content under a wrong diff id")
    func wrongDiffID() async throws {
        let scratch = try Scratch()
        let store = try scratch.store()
        var tar = TarFile()
        tar.add("f", .file, "x")
        var image = TestImage()
        try await image.add(gzip: tar.finished)
        image.layers[0].diffID = SHA256.digest("another".utf8)
        let error = await #expect(throws: ImageError.self) { try await scratch.resolve(image, store) }
        #expect(error?.code == .digestMismatch)
        try expectEmpty(store)
    }

    @Test("content under a wrong digest")
    func wrongDigest() async throws {
        let scratch = try Scratch()
        let store = try scratch.store()
        var tar = TarFile()
        tar.add("f", .file, "x")
        var image = TestImage()
        image.add(tar)
        image.layers[0].claimed = SHA256.digest("another".utf8)
        let error = await #expect(throws: ImageError.self) { try await scratch.resolve(image, store) }
        #expect(error?.code == .digestMismatch, "\(error?.sentence ?? "")")
        try expectEmpty(store)
    }
}
