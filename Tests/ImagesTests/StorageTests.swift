import Glibc
import LinuxSystem
import Storage
import Testing

@Suite("Writable disks", .enabled(if: exists("/sbin/mkfs.ext4"), "needs mkfs.ext4"))
struct WritableDiskTests {
    @Test("are ext4 with a journal, sparse, and copied within milliseconds")
    func make() async throws {
        let scratch = try Scratch()
        let templates = "\(scratch.path)/templates"
        try await WritableDisk.make("\(scratch.path)/first", sizeBytes: 10 << 30, templates: templates)
        var times: [Duration] = []
        for index in 0..<10 {
            times.append(
                try await ContinuousClock().measure {
                    try await WritableDisk.make("\(scratch.path)/\(index)", sizeBytes: 10 << 30, templates: templates)
                })
        }
        print("a writable disk of 10 GiB: \(times.sorted()[5]) (median of 10)")
        #expect(times.sorted()[5] < .milliseconds(50))
        var status = stat()
        stat("\(scratch.path)/3", &status)
        #expect(status.st_size == 10 << 30)
        #expect(status.st_blocks * 512 < 8 << 20)
        try await command("/sbin/e2fsck", "-fn", "\(scratch.path)/3")
        let said = String(decoding: try await command("/sbin/dumpe2fs", "-h", "\(scratch.path)/3"), as: UTF8.self)
        #expect(said.contains("has_journal"))
        #expect(try listDirectory(templates).count == 1)
    }

    @Test("grow, and refuse to shrink or to be tiny")
    func grow() async throws {
        let scratch = try Scratch()
        let disk = "\(scratch.path)/disk"
        try await WritableDisk.make(disk, sizeBytes: 1 << 30, templates: scratch.path)
        try await WritableDisk.grow(disk, sizeBytes: 40 << 30)
        try await command("/sbin/e2fsck", "-fn", disk)
        let said = String(decoding: try await command("/sbin/dumpe2fs", "-h", disk), as: UTF8.self)
        #expect(said.contains("Block count:              10485760"), "\(said)")
        await #expect(throws: StorageError.self) { try await WritableDisk.grow(disk, sizeBytes: 1 << 30) }
        await #expect(throws: StorageError.self) {
            try await WritableDisk.make("\(scratch.path)/small", sizeBytes: 1 << 20, templates: scratch.path)
        }
        #expect(!exists("\(scratch.path)/small"))
    }

    @Test("an existing disk is never overwritten")
    func existing() async throws {
        let scratch = try Scratch()
        try put("\(scratch.path)/disk", Array("precious".utf8))
        await #expect(throws: SystemError.self) {
            try await WritableDisk.make("\(scratch.path)/disk", sizeBytes: 1 << 30, templates: scratch.path)
        }
        #expect(try readText("\(scratch.path)/disk") == "precious")
    }
}

@Suite("Volumes")
struct VolumeTests {
    @Test("are made once, listed, and removed when nobody uses them")
    func life() throws {
        let scratch = try Scratch()
        let volumes = try Volumes(root: "\(scratch.path)/volumes")
        let made = try volumes.make("data", labels: ["a": "b"])
        try put("\(made.path)/file", Array("kept".utf8))
        #expect(try volumes.make("data") == made)
        #expect(made.labels == ["a": "b"] && !made.isAnonymous && made.created.hasSuffix("Z"))
        let anonymous = try volumes.make(nil)
        #expect(anonymous.isAnonymous && anonymous.name.utf8.count == 64)
        #expect(try volumes.list().map(\.name).sorted() == [anonymous.name, "data"].sorted())
        #expect(try readText("\(volumes.find("data").path)/file") == "kept")
        let error = #expect(throws: StorageError.self) { try volumes.remove("data") { _ in ["web"] } }
        #expect(error?.code == .inUse)
        try volumes.remove("data") { _ in [] }
        #expect(throws: StorageError.self) { try volumes.find("data") }
        #expect(!exists("\(volumes.root)/data"))
        // Half made or half removed.
        try makeDirectories("\(volumes.root)/half/data")
        #expect(try volumes.list().map(\.name) == [anonymous.name])
        try volumes.collectLeftovers()
        #expect(!exists("\(volumes.root)/half"))
    }

    @Test("have names that are safe as folders", arguments: ["", "a", ".hidden", "-x", "a/b", "../x", "a b", "a\u{0}b", "ä1"])
    func names(name: String) throws {
        let scratch = try Scratch()
        let volumes = try Volumes(root: scratch.path)
        #expect(throws: StorageError.self) { try volumes.make(name) }
        #expect(throws: StorageError.self) { try volumes.find(name) }
    }
}
