import Foundation
import Glibc
import Testing

extension IntegrationTests.Runtime {
    /// Counts, ten times a second, in its root.
    private static let counter = "i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.1; done"

    /// Waits until it has counted on.
    private func goesOn(_ bundle: String, _ place: SourceLocation = #_sourceLocation) throws {
        // Not there yet, or, in the moment of its being written, empty.
        func count() -> Int? { (try? lab.read("\(bundle)/rootfs/count")).flatMap { Int($0.dropLast()) } }
        var before: Int?
        try eventually("it counts on from \(before ?? -1)", within: 20, every: 0.05, place) {
            let now = count()
            if let before, let now { return now > before }
            before = before ?? now
            return false
        }
    }

    /// What saves and restores keep while they work.
    private func making() throws -> [String] {
        let folder = "\(lab.root)/snapshots"
        guard FileManager.default.fileExists(atPath: folder) else { return [] }
        return try FileManager.default.contentsOfDirectory(atPath: folder).filter {
            $0.hasPrefix(".making") || $0.hasPrefix(".removing")
        }
    }

    private func begin(_ id: String, _ bundle: String, with more: [String: String] = [:]) throws {
        let made = try leaving("create", "--bundle", bundle, id, with: more)
        try #require(made.code == 0, "\(made.errors)")
        #expect(try runtime("start", id).code == 0)
    }

    /// The verb killed at each of its steps: the container goes on, and the next checkpoint finds nothing in its way.
    @Test func killedCheckpoints() throws {
        let bundle = try bundle("saved", Self.counter)
        let images = try lab.scratch("saved-images")
        try begin("saved", bundle)
        defer { _ = try? runtime("delete", "--force", "saved") }
        for point in ["snapshot:saved", "checkpoint:written"] {
            let killed = try runtime("checkpoint", "--image-path", images, "saved", with: ["HULL_FAULT": point])
            #expect(killed.code == 137, "\(point): \(killed.errors)")
            #expect(try state("saved")["status"] as? String == "running", "\(point)")
            try goesOn(bundle)
        }
        let saved = try runtime("checkpoint", "--image-path", images, "saved")
        #expect(saved.code == 0, "\(saved.errors)")
        try becomes("saved", "stopped")
        let files = try FileManager.default.contentsOfDirectory(atPath: images)
        #expect(Set(files) == ["hull.snapshot", "inventory.img", "stats-dump"], "\(files)")
        #expect(try making() == [])
        #expect(try runtime("delete", "saved").code == 0)
        // A restore that was killed when it had unpacked: nothing of it is there after the engine's delete.
        let opened = try leaving(
            "restore", "--bundle", bundle, "--image-path", images, "-d", "saved", with: ["HULL_FAULT": "checkpoint:opened"])
        #expect(opened.code == 137)
        #expect(try runtime("delete", "--force", "saved").code == 0)
        #expect(try making() == [])
        // And the checkpoint is as good as it was.
        let restored = try leaving("restore", "--bundle", bundle, "--image-path", images, "-d", "saved")
        #expect(restored.code == 0, "\(restored.errors)")
        try goesOn(bundle)
    }

    /// The monitor killed while it saves: the verb says so, the container has ended, and no half of a checkpoint is there.
    @Test(arguments: ["save:copied", "save:still"]) func monitorsKilledWhileTheySave(_ point: String) throws {
        let before = try sandboxes()
        let bundle = try bundle("lost", "sleep 1000")
        let images = try lab.scratch("lost-images")
        try begin("lost", bundle, with: ["HULL_FAULT": point])
        defer { _ = try? runtime("delete", "--force", "lost") }
        let failed = try runtime("checkpoint", "--image-path", images, "lost")
        #expect(failed.code == 1 && failed.errors.contains("checkpoint failed"), "\(failed.errors)")
        try becomes("lost", "stopped")
        #expect(try FileManager.default.contentsOfDirectory(atPath: images) == [])
        #expect(try making() == [])
        #expect(try runtime("delete", "lost").code == 0)
        #expect(try sandboxes() == before)
    }

    /// A disk without room, Hull's own or the engine's: a sentence, no half of a checkpoint, and the container goes on.
    @Test func checkpointsOnAFullDisk() throws {
        let bundle = try bundle("full", Self.counter)
        let small = try lab.scratch("small")
        try #require(mount("tmpfs", small, "tmpfs", 0, "size=4m") == 0)
        defer { umount2(small, Int32(MNT_DETACH)) }
        // Its own root of Hull's, whose snapshots are on the small disk.
        let root = try lab.scratch("full-root")
        for (name, target) in [("cache", "\(lab.root)/cache"), ("snapshots", "\(small)/snapshots")] {
            try? FileManager.default.removeItem(atPath: "\(root)/\(name)")  // of the last time
            try FileManager.default.createSymbolicLink(atPath: "\(root)/\(name)", withDestinationPath: target)
        }
        try FileManager.default.createDirectory(atPath: "\(small)/snapshots", withIntermediateDirectories: true)
        let images = try lab.scratch("full-images")
        for (more, folder) in [(["HULL_ROOT": root], images), ([:], "\(small)/images")] {
            defer { _ = try? runtime("delete", "--force", "full", with: more) }
            let made = try leaving("create", "--bundle", bundle, "full", with: more)
            try #require(made.code == 0, "\(made.errors)")
            #expect(try runtime("start", "full", with: more).code == 0)
            let failed = try runtime("checkpoint", "--image-path", folder, "full", with: more)
            #expect(failed.code == 1 && failed.errors.contains("No space left on device"), "\(failed.errors)")
            try goesOn(bundle)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
            #expect(try FileManager.default.contentsOfDirectory(atPath: "\(small)/snapshots").filter { $0 != ".lock" } == [])
            #expect(try making() == [])
            #expect(try runtime("delete", "--force", "full", with: more).code == 0)
        }
    }
}
