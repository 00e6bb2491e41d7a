import Glibc
import Images
import LinuxSystem
import OCISpec
import Testing

@Suite("Images from layouts and archives", .enabled(if: missing == nil, "\(missing ?? "")"))
struct PullTests {
    @Test("an oci: layout becomes an image with a config and a root")
    func layout() async throws {
        let scratch = try Scratch()
        var image = TestImage()
        var tar = TarFile()
        tar.addFolder("./etc")
        tar.add("./etc/hostname", .file, "hull\n")
        tar.add("bin", .link, link: "usr/bin")
        try await image.add(gzip: tar.finished)
        image.execution.cmd = ["/bin/sh"]
        try image.write(to: "\(scratch.path)/layout")
        let store = try scratch.store()
        let source = try ImageSource("oci:layout", relativeTo: scratch.path)
        let found = try await store.resolve(source)
        #expect(found.id == SHA256.digest(image.config))
        #expect(found.config.config?.cmd == ["/bin/sh"])
        try await extract(found, to: "\(scratch.path)/out")
        #expect(try readText("\(scratch.path)/out/etc/hostname") == "hull\n")
        try await command("/usr/bin/fsck.erofs", found.rootPath)
        var status = stat()
        lstat("\(scratch.path)/out/etc/hostname", &status)
        #expect(status.st_mtim.tv_sec == 1_700_000_000)
        // Another store, another moment: the same bytes.
        try await sleep(for: .milliseconds(1100))
        let other = try await scratch.store("other").resolve(source)
        #expect(try rootData(other) == rootData(found))
        let again = try await store.resolve(source)
        #expect(again.id == found.id)
        #expect(try listDirectory("\(store.root)/ingest") == [])
    }
}
