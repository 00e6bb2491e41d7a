import CLinux
import Foundation
import Glibc
import Testing

extension IntegrationTests.Runtime {
    /// Root of a user namespace, as a plain user's engine is: the first start boots, and leaves a template of which the next is a clone.
    @Test func aPlainUsersTemplate() throws {
        let ids: UInt32 = 300_000
        let bundle = try bundle("user", "echo hello from $(id -u); exit 5") { spec in
            var linux = spec["linux"] as? [String: Any] ?? [:]
            linux["cgroupsPath"] = nil
            linux["resources"] = nil
            spec["linux"] = linux
        }
        let place = try lab.scratch("user-hull")
        for name in ["data", "run", "xdg"] {
            try FileManager.default.createDirectory(atPath: "\(place)/\(name)", withIntermediateDirectories: true)
            chown("\(place)/\(name)", ids, ids)
        }
        // Where the programs are may be closed to others.
        let programs = URL(fileURLWithPath: lab.program).deletingLastPathComponent().path
        for name in ["hull-runtime", "hull-init"] {
            try? FileManager.default.removeItem(atPath: "\(place)/\(name)")  // of the last time
            try FileManager.default.copyItem(atPath: "\(programs)/\(name)", toPath: "\(place)/\(name)")
        }
        for path in [bundle, place] { chmod(path, 0o755) }
        // The guest makes mount points in it.
        try lab.host("chown", "-R", "\(ids):\(ids)", "\(bundle)/rootfs")
        let map = "0 \(ids) 65536\n"
        let namespace = hull_user_namespace(map, map)
        try #require(namespace >= 0)
        defer { close(namespace) }
        let environment = [
            "HULL_ROOT": "\(place)/data", "HULL_EXEC_ROOT": "\(place)/run", "XDG_RUNTIME_DIR": "\(place)/xdg",
            "HULL_LIBEXEC": place,
        ]
        func asUser(_ words: String...) throws -> (code: Int32, text: String, errors: String) {
            let line = [
                "nsenter", "--user=/proc/\(getpid())/fd/\(namespace)", "--setuid", "0", "--setgid", "0", "--",
                "sh", "-c", "exec \"$@\" </dev/null >\(place)/xdg/out 2>\(place)/xdg/said", "sh", "\(place)/hull-runtime",
                "--root",
                "\(place)/xdg/root",
            ]
            let output = try Program(line + words, environment: environment).finish(seconds: 120)
            // Files: who stays behind would hold a pipe.
            return (output.code, try lab.read("\(place)/xdg/out"), try lab.read("\(place)/xdg/said"))
        }
        let templates = "\(place)/data/cache/templates"
        func made() throws -> [String] {
            guard FileManager.default.fileExists(atPath: templates) else { return [] }
            return try FileManager.default.contentsOfDirectory(atPath: templates).filter { $0.count == 32 }
        }
        let booted = try asUser("run", "--bundle", bundle, "first")
        try #require(booted.code == 5 && booted.text == "hello from 0\n", "\(booted.errors)")
        try eventually("the user's template", within: 200) { try !made().isEmpty }
        let said = try lab.read("\(templates)/build.log")
        try #require(try made().count == 1, "\(said)")
        // The machine of the next is no other.
        let created = try asUser("create", "--bundle", bundle, "second")
        #expect(created.code == 0, "\(created.errors)")
        let containers = try FileManager.default.contentsOfDirectory(atPath: "\(place)/data/containers")
        let folder = try #require(containers.first { $0.count == 64 })
        let log = try lab.read("\(place)/data/containers/\(folder)/monitor.log")
        #expect(!log.contains("boots"), "\(log)")
        #expect(try made().count == 1)
        #expect(try asUser("delete", "--force", "second").code == 0)
    }
}
