import Foundation
import Testing

extension IntegrationTests {
    /// Snapshots that have only what is different from another one.
    @Suite struct SnapshotParents {
        let lab = Lab.shared

        private func remove(_ containers: [String], _ snapshots: [String]) {
            for name in containers { _ = try? lab.hull("rm", "-f", name) }
            for name in snapshots { _ = try? lab.hull("snapshot", "rm", name) }
        }

        /// A container that has random bytes in memory and on its disk.
        private func begin(_ name: String) throws {
            try lab.good2([
                "run", "-d", "--name", name, "--network", "none", lab.image, "sh", "-c",
                "n=0; while :; do n=$((n+1)); sleep 0.05; done",
            ])
            try change(name, "one")
        }

        /// A file of that name on the disk and one in memory, whose sums are kept.
        private func change(_ name: String, _ file: String) throws {
            try lab.good(
                "exec", name, "sh", "-c",
                """
                cd /; mkdir -p kept; for f in kept/\(file) dev/shm/\(file); do head -c 3000000 /dev/urandom >$f; done
                md5sum kept/\(file) dev/shm/\(file) >>sums; sync
                """)
        }

        private func isWhole(_ name: String, files: Int, _ place: SourceLocation = #_sourceLocation) throws {
            let output = try lab.good("exec", name, "sh", "-c", "cd /; md5sum -c sums; ls kept | wc -l; ls dev/shm | wc -l")
            #expect(
                output.lines.filter { $0.hasSuffix(": OK") }.count == 2 * files
                    && output.lines.suffix(2) == ["\(files)", "\(files)"],
                "\(name): \(output.text)", sourceLocation: place)
        }

        private func inspect(_ name: String) throws -> [String: Any] {
            let output = try lab.good("snapshot", "inspect", name)
            return try #require((JSONSerialization.jsonObject(with: Data(output.bytes)) as? [[String: Any]])?.first)
        }

        private func left() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: "\(lab.root)/snapshots").filter {
                $0.hasPrefix(".") && $0 != ".lock"
            }
        }

        /// In a row: of the original, of one that was restored, and of that by what it was restored from. Each goes on as it was.
        @Test func onlyWhatChangedIsStored() throws {
            let copies = ["again1", "again2", "again3", "again4", "fork4", "carried"]
            let folder = try lab.scratch("snapshot-parent")
            defer { remove(copies + ["first"], ["s5", "s4", "s3", "s2", "s1"]) }
            try begin("first")
            #expect(try lab.good("snapshot", "create", "--diff", "first", "s1").word == "s1", "the first of a row is whole")
            try change("first", "two")
            try lab.good("snapshot", "create", "--parent", "s1", "first", "s2")
            try change("first", "three")
            try lab.good("exec", "first", "sh", "-c", "cd /; rm kept/one dev/shm/one; grep -v one sums >s; mv s sums; sync")
            try lab.good("snapshot", "create", "--diff", "first", "s3")
            #expect(try ["s1", "s2", "s3"].map { try inspect($0)["Parent"] as? String } == [nil, "s1", "s2"])
            let sizes = try ["s1", "s2", "s3"].map { try #require(inspect($0)["Size"] as? Int) }
            print("a snapshot of \(sizes[0] >> 20) MiB, and two with parents of \(sizes[1] >> 20) and \(sizes[2] >> 20)")
            #expect(sizes[1] > 6_000_000 && sizes[1] * 2 < sizes[0] && sizes[2] * 2 < sizes[0])
            #expect(try lab.good("snapshot", "ls").lines.first?.contains("PARENT") == true)
            for number in 1...3 {
                try lab.good("restore", "s\(number)", "--name", "again\(number)")
                try isWhole("again\(number)", files: min(number, 2))
            }
            // Of one that was restored: its parent is found, and is what it was restored from.
            try change("again3", "four")
            try lab.good("snapshot", "create", "--diff", "again3", "s4")
            #expect(try inspect("s4")["Parent"] as? String == "s3")
            #expect(try #require(inspect("s4")["Size"] as? Int) * 2 < sizes[0])
            try lab.good("restore", "s4", "--name", "again4")
            try isWhole("again4", files: 3)
            try lab.good("fork", "again4", "--name", "fork4")
            try isWhole("fork4", files: 3)
            // A parent stays as long as it is needed.
            let refused = try lab.hull("snapshot", "rm", "s2")
            #expect(
                refused.code != 0 && refused.errors.contains("snapshot s2 is the parent of s3: remove that first"),
                "\(refused.errors)")
            // What travels is whole.
            try lab.good("snapshot", "export", "s4", "-o", "\(folder)/file")
            try lab.good("snapshot", "rm", "s4", "s3", "s2", "s1")
            try lab.good("snapshot", "import", "\(folder)/file", "s5")
            #expect(try inspect("s5")["Parent"] == nil)
            try lab.good("restore", "s5", "--name", "carried")
            try isWhole("carried", files: 3)
            #expect(try left() == [])
        }

        /// A parent that was damaged, is gone, or is another, and one that is of another machine.
        @Test func aParentMustBeWhatItWas() throws {
            defer { remove(["child", "wide", "none"], ["c2", "c1", "w1", "other"]) }
            try begin("child")
            try lab.good("snapshot", "create", "child", "c1")
            try lab.good("snapshot", "create", "--parent", "c1", "child", "c2")
            let snapshots = "\(lab.root)/snapshots"
            let files = FileManager.default
            func refused(_ words: String, _ place: SourceLocation = #_sourceLocation) throws {
                let output = try lab.hull("restore", "c2", "--name", "none")
                #expect(output.code == 125 && output.errors.contains(words), "\(output.errors)", sourceLocation: place)
                #expect(try !lab.good("ps", "-a").text.contains("none"), sourceLocation: place)
            }
            try files.moveItem(atPath: "\(snapshots)/c1", toPath: "\(snapshots)/away")
            try refused("the parent of snapshot c2, c1, is not there any more")
            try lab.good("snapshot", "create", "child", "other")
            try files.moveItem(atPath: "\(snapshots)/other", toPath: "\(snapshots)/c1")
            try refused("the parent of snapshot c2, c1, is another than it was")
            try files.moveItem(atPath: "\(snapshots)/c1", toPath: "\(snapshots)/other")
            try files.moveItem(atPath: "\(snapshots)/away", toPath: "\(snapshots)/c1")
            try lab.good("restore", "c2", "--name", "none")
            remove(["none"], [])
            let handle = try #require(FileHandle(forUpdatingAtPath: "\(snapshots)/c1/memory"))
            try handle.seek(toOffset: 7_000_000)
            try handle.write(contentsOf: Data([1]))
            try handle.close()
            try refused("memory of snapshot c1 was changed")
            #expect(try lab.hull("snapshot", "create", "--parent", "c1", "child").errors.contains("was changed"))
            try lab.good("run", "-d", "--name", "wide", "--network", "none", "--memory", "300m", lab.image, "sleep", "1000")
            try lab.good("snapshot", "create", "--stop", "wide", "w1")
            let output = try lab.hull("snapshot", "create", "--parent", "w1", "child", "x1")
            #expect(output.code == 1 && output.errors.contains("cannot be the parent"), "\(output.errors)")
            #expect(try lab.hull("snapshot", "create", "--parent", "nobody", "child").errors.contains("No such snapshot"))
            #expect(try left() == [])
        }

        /// Killed anywhere: the old state or the new, and the parent is never hurt.
        @Test func aKilledVerbLeavesNothing() throws {
            defer { remove(["kept", "back"], ["k2", "k1"]) }
            try begin("kept")
            try lab.good("snapshot", "create", "kept", "k1")
            try change("kept", "two")
            for point in ["snapshot:saved", "snapshot:rename"] {
                let output = try lab.hull(
                    "snapshot", "create", "--parent", "k1", "kept", "k2", environment: ["HULL_FAULT": point])
                #expect(output.code == 137, "\(point): \(output.code) \(output.errors)")
                #expect(try lab.good("snapshot", "ls", "-q").lines == ["k1"] && left() == [])
            }
            for delay in [10_000, 50_000, 150_000, 300_000] {
                let verb = try Program(try lab.line(["snapshot", "create", "--parent", "k1", "kept", "k2"]))
                usleep(useconds_t(delay))
                verb.signal(SIGKILL)
                _ = try verb.finish()
                _ = try lab.good("snapshot", "ls")
                #expect(try left() == [])
                _ = try lab.hull("snapshot", "rm", "k2")
            }
            try lab.good("snapshot", "create", "--parent", "k1", "kept", "k2")
            #expect(try lab.hull("snapshot", "export", "k2", "-o", "/proc/none").code != 0)
            #expect(try left() == [])
            let exporting = try Program(try lab.line(["snapshot", "export", "k2", "-o", "\(lab.folder)/killed"]))
            usleep(50_000)
            exporting.signal(SIGKILL)
            _ = try exporting.finish()
            #expect(try lab.good("snapshot", "ls", "-q").lines == ["k1", "k2"] && left() == [])
            #expect(try lab.hull("snapshot", "rm", "k2", environment: ["HULL_FAULT": "snapshot:removed"]).code == 137)
            #expect(try lab.good("snapshot", "ls", "-q").lines == ["k1"] && left() == [])
            try isWhole("kept", files: 2)
            try lab.good("restore", "k1", "--name", "back")
            try isWhole("back", files: 1)
        }

        /// Each start, each restore and each fork has a boot id of its own, which stays.
        @Test func bootIds() throws {
            defer { remove(["boots", "restored", "forked1", "forked2", "free"], ["booted"]) }
            func boot(_ name: String) throws -> String {
                try lab.good("exec", name, "cat", "/proc/sys/kernel/random/boot_id").word
            }
            try lab.good("run", "-d", "--name", "boots", "--network", "none", lab.image, "sleep", "100000")
            let first = try boot("boots")
            #expect(
                first.wholeMatch(of: /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/) != nil, "\(first)")
            try lab.good("fork", "boots", "-n", "2", "--name", "forked")
            try lab.good("snapshot", "create", "boots", "booted")
            try lab.good("restore", "booted", "--name", "restored")
            var all = try [first, boot("forked1"), boot("forked2"), boot("restored")]
            #expect(try boot("boots") == first)
            try lab.good("stop", "-t", "0", "boots")
            try lab.good("start", "boots")
            all.append(try boot("boots"))
            #expect(Set(all).count == all.count, "\(all)")
            // The rest of /proc/sys is as protected as without; and a privileged container's /proc is whole, for user namespaces in it.
            #expect(try lab.hull("exec", "boots", "sh", "-c", "echo x >/proc/sys/kernel/hostname").code != 0)
            try lab.good("run", "-d", "--name", "free", "--privileged", "--network", "none", lab.image, "sleep", "100000")
            #expect(try lab.good("exec", "free", "unshare", "-Urpf", "--mount-proc", "cat", "/proc/self/comm").word == "cat")
        }
    }
}
