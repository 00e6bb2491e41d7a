import Foundation
import Testing

extension IntegrationTests {
    /// Containers that are saved while they run, and go on: as they were, or as others.
    @Suite struct Snapshots {
        let lab = Lab.shared

        /// Counts, a line every 50 ms, on both outputs.
        static let counter = "i=0; while :; do i=$((i+1)); echo $i; [ $((i % 7)) = 0 ] && echo e$i >&2; sleep 0.05; done"

        private func count(_ name: String, _ flags: [String] = ["--network", "none"]) throws {
            try lab.good2(["run", "-d", "--name", name] + flags + [lab.image, "sh", "-c", Self.counter])
            try waitFor(name, past: 10)
        }

        /// How far it has counted; every number must be there once, and in order.
        @discardableResult
        private func counted(_ name: String, _ place: SourceLocation = #_sourceLocation) throws -> Int {
            let lines = try lab.good("logs", name).lines.filter { !$0.hasPrefix("e") }
            for (index, line) in lines.enumerated() where line != "\(index + 1)" {
                Issue.record("line \(index + 1) of \(name) is \(line)", sourceLocation: place)
                break
            }
            return lines.count
        }

        private func waitFor(_ name: String, past: Int) throws {
            try eventually("\(name) counts past \(past)", within: 60) { try lab.good("logs", name).lines.count > past }
            #expect(try counted(name) > past)
        }

        private func remove(_ names: String...) {
            for name in names { _ = try? lab.hull("rm", "-f", name) }
        }

        @Test func itGoesOnWhereItWas() throws {
            defer {
                remove("saved", "again")
                _ = try? lab.hull("snapshot", "rm", "moment")
            }
            try count("saved")
            let before = try counted("saved")
            try lab.good("exec", "saved", "sh", "-c", "echo original >/file; head -c 1000000 /dev/urandom >/dev/shm/big")
            let sum = try lab.good("exec", "saved", "md5sum", "/dev/shm/big").text
            #expect(try lab.good("snapshot", "create", "saved", "moment").word == "moment")
            let after = try counted("saved")
            try waitFor("saved", past: after)
            try lab.good("exec", "saved", "sh", "-c", "echo later >/file; rm /dev/shm/big")
            try lab.good("restore", "moment", "--name", "again")
            let restored = try counted("again")
            try waitFor("again", past: restored)
            #expect(restored >= before)
            #expect(try lab.good("exec", "again", "cat", "/file").word == "original")
            #expect(try lab.good("exec", "again", "md5sum", "/dev/shm/big").text == sum)
            #expect(try lab.good("exec", "saved", "cat", "/file").word == "later")
            // The same container, in all that it knows of itself.
            #expect(try lab.good("exec", "again", "hostname").text == lab.good("exec", "saved", "hostname").text)
            #expect(try lab.hull("exec", "again", "sh", "-c", "exit 5").code == 5)
            // One that ended is as any other: it starts from its disk.
            try lab.good("stop", "-t", "0", "again")
            try lab.good("snapshot", "rm", "moment")
            try lab.good("start", "again")
            #expect(try lab.good("exec", "again", "cat", "/file").word == "original")
        }

        @Test func aForkIsAnother() throws {
            defer { remove("first", "copy1", "copy2") }
            try count("first", [])
            try lab.good("exec", "first", "sh", "-c", "echo shared >/file; nc -l -p 99 -e cat & sleep 0.2")
            let began = Date()
            let ids = try lab.good("fork", "first", "-n", "2", "--name", "copy").lines
            print("two forks took \(Date().timeIntervalSince(began)) s")
            #expect(ids.count == 2)
            var seen: [String: Set<String>] = [:]
            for name in ["first", "copy1", "copy2"] {
                let lines = try lab.good(
                    "exec", name, "sh", "-c",
                    """
                    echo host $(hostname); echo file $(cat /etc/hostname); echo hosts $(tail -n 1 /etc/hosts)
                    echo mac $(cat /sys/class/net/eth0/address); echo address $(ip -4 -o addr show dev eth0)
                    echo six $(ip -6 -o addr show dev eth0 scope global)
                    echo random $(head -c 16 /dev/urandom | md5sum); echo uuid $(cat /proc/sys/kernel/random/uuid)
                    """
                ).lines
                for line in lines {
                    let words = line.split(separator: " ", maxSplits: 1).map(String.init)
                    #expect(seen[words[0], default: []].insert(words.last ?? "").inserted, "\(line) came twice")
                    #expect(words[0] != "address" || line.split(separator: " ").count(where: { $0 == "inet" }) == 1, "\(line)")
                }
                #expect(try lab.good("exec", name, "cat", "/file").word == "shared")
                try waitFor(name, past: try counted(name))
                let before = Date().timeIntervalSince1970.rounded(.down)
                let there = try #require(Double(try lab.good("exec", name, "date", "+%s").word))
                #expect(there >= before - 1 && there <= Date().timeIntervalSince1970 + 1, "\(there - before)")
            }
            #expect(seen.keys.sorted() == ["address", "file", "host", "hosts", "mac", "random", "six", "uuid"])
            #expect(try lab.inspect("copy1")["Id"] as? String == ids[0])
            #expect(try lab.good("exec", "copy1", "hostname").word == String(ids[0].prefix(12)))
            // Each has a disk of its own, and they reach each other.
            try lab.good("exec", "copy1", "sh", "-c", "echo mine >/file")
            #expect(try lab.good("exec", "first", "cat", "/file").word == "shared")
            #expect(try lab.good("exec", "copy2", "cat", "/file").word == "shared")
            let address = try self.address(of: "copy2")
            try lab.good("exec", "copy1", "ping", "-c", "1", "-W", "5", address)
            // A fork of a fork.
            try lab.good("fork", "copy1", "--name", "copy3")
            defer { remove("copy3") }
            #expect(try lab.good("exec", "copy3", "cat", "/file").word == "mine")
            #expect(try lab.hull("fork", "nobody").errors.contains("No such container"))
        }

        /// Of its interface. (`hostname -i` asks a name server first, where an image has no nsswitch.conf.)
        private func address(of name: String) throws -> String {
            let words = try lab.good("exec", name, "ip", "-4", "-o", "addr", "show", "eth0").text.split(separator: " ")
            return String(try #require(words.first { $0.contains("/") }, "\(words)").prefix { $0 != "/" })
        }

        /// An open connection: kept where the container goes on at its place, reset in a copy beside it.
        @Test func connections() throws {
            defer {
                remove("talks", "apart", "place")
                _ = try? lab.hull("snapshot", "rm", "talking")
            }
            try lab.good("run", "-d", "--name", "talks", lab.image, "sh", "-c", "nc -l -p 7 -e cat; echo ended; sleep 1000")
            let address = try self.address(of: "talks")
            let listens = "until cat /proc/net/tcp* | grep -q ':0007 .* 0A '; do sleep 0.1; done"
            try lab.good("exec", "talks", "sh", "-c", listens)
            let talker = try Program(try lab.inside(["nc", address, "7"]), open: true)
            talker.type("one\n")
            try talker.expect("one")
            try lab.good("fork", "talks", "--name", "apart")
            try eventually("the end of the fork's connection", within: 20) {
                try lab.good("logs", "apart").text.contains("ended")
            }
            // The original's other end has heard nothing of that.
            talker.type("two\n")
            try talker.expect("two")
            try lab.good("snapshot", "create", "--stop", "talks", "talking")
            #expect(try lab.state("talks")["Running"] as? Bool == false)
            talker.type("three\n")
            usleep(500_000)
            try lab.good("restore", "talking", "--name", "place")
            #expect(try self.address(of: "place") == address)
            try talker.expect("three", seconds: 60)
            #expect(try !lab.good("logs", "place").text.contains("ended"))
            talker.endInput()
            talker.signal(SIGTERM)
        }

        /// Not one byte is lost or doubled, though a save comes in the middle of many.
        @Test func muchOutputComesOnce() throws {
            defer {
                remove("many", "more")
                _ = try? lab.hull("snapshot", "rm", "flood")
            }
            try lab.good(
                "run", "-d", "--name", "many", "--network", "none", lab.image, "sh", "-c",
                "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo line $i of very many; done; echo done; sleep 1000")
            usleep(1_500_000)
            try lab.good("snapshot", "create", "many", "flood")
            try lab.good("restore", "flood", "--name", "more")
            let wanted = (1...60000).map { "line \($0) of very many" } + ["done"]
            for name in ["many", "more"] {
                try eventually("the last line of \(name)", within: 120, every: 0.2) {
                    try lab.good("logs", "--tail", "1", name).word == "done"
                }
                #expect(try lab.good("logs", name).lines == wanted, "\(name)")
            }
        }

        /// A folder and a volume of the host: the open file goes on, for both.
        @Test func sharesGoOn() throws {
            let folder = try lab.scratch("snapshot-share")
            defer {
                remove("mounted", "mounted2", "mounted3")
                _ = try? lab.hull("snapshot", "rm", "mounts")
                _ = try? lab.hull("volume", "rm", "snapvolume")
            }
            try lab.good(
                "run", "-d", "--name", "mounted", "--network", "none", "-v", "\(folder):/b", "-v", "snapvolume:/v", lab.image,
                "sh",
                "-c",
                "exec 5>>/b/$(hostname); i=0; while :; do i=$((i+1)); echo $i; echo $i >&5; echo $i >/v/next; mv /v/next /v/last; sleep 0.05; done"
            )
            try waitFor("mounted", past: 5)
            try lab.good("snapshot", "create", "--stop", "mounted", "mounts")
            try lab.good("restore", "mounts", "--name", "mounted2")
            try waitFor("mounted2", past: try counted("mounted2") + 5)
            let file = "\(folder)/\(try lab.good("exec", "mounted2", "hostname").word)"
            // What was open is open: it goes on behind what was written.
            let lines = try lab.read(file).split(separator: "\n")
            #expect(lines.map(String.init) == (1...lines.count).map { "\($0)" })
            #expect(try Int(lab.good("exec", "mounted2", "cat", "/v/last").word) ?? 0 > 5)
            try lab.good("fork", "mounted2", "--name", "mounted3")
            try waitFor("mounted3", past: try counted("mounted3") + 5)
            #expect(try lab.good("exec", "mounted3", "sh", "-c", "echo new >/b/new; cat /b/new").word == "new")
            #expect(try lab.read("\(folder)/new") == "new\n")
        }

        @Test func itTravels() throws {
            let folder = try lab.scratch("snapshot-file")
            defer {
                remove("goes", "came", "came2")
                for name in ["out", "in", "in2"] { _ = try? lab.hull("snapshot", "rm", name) }
            }
            try count("goes", ["--network", "none", "--memory", "150m"])
            try lab.good("snapshot", "create", "--stop", "goes", "out")
            try lab.good("snapshot", "export", "out", "-o", "\(folder)/file")
            #expect(try FileManager.default.attributesOfItem(atPath: "\(folder)/file")[.posixPermissions] as? Int == 0o600)
            try lab.good("rm", "goes")
            try lab.good("snapshot", "rm", "out")
            try lab.good("snapshot", "import", "\(folder)/file", "in")
            #expect(try lab.hull("snapshot", "import", "\(folder)/file", "in").errors.contains("in use"))
            for name in ["came", "came2"] {
                try lab.good("restore", "in", "--name", name)
                try waitFor(name, past: try counted(name) + 3)
            }
            // Any byte.
            let whole = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/file"))
            var places = [0, 17, 84, 200, whole.count - 1, whole.count - 12]
            var random = SystemRandomNumberGenerator()
            places += (0..<4).map { _ in Int.random(in: 0..<whole.count, using: &random) }
            for place in places {
                var bad = whole
                bad[place] ^= UInt8.random(in: 1...255)
                try bad.write(to: URL(fileURLWithPath: "\(folder)/bad"))
                let output = try lab.hull("snapshot", "import", "\(folder)/bad", "in2")
                #expect(output.code == 125 && output.errors.contains("snapshot"), "byte \(place): \(output.errors)")
            }
            try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: "\(folder)/bad"))
            #expect(try lab.hull("snapshot", "import", "\(folder)/bad", "in2").errors.contains("too early"))
            #expect(try lab.good("snapshot", "ls", "-q").lines == ["in"])
            #expect(try left() == [])
        }

        /// What somebody else made may not have this host's folders for the asking.
        @Test func whatItAsksOfTheHostIsAsked() throws {
            let folder = try lab.scratch("snapshot-trust")
            defer {
                remove("asks")
                for name in ["asked", "trusted"] { _ = try? lab.hull("snapshot", "rm", name) }
            }
            try lab.good("run", "-d", "--name", "asks", "--network", "none", "-v", "\(folder):/b", lab.image, "sleep", "1000")
            try lab.good("snapshot", "create", "--stop", "asks", "asked")
            try lab.good("snapshot", "export", "asked", "-o", "\(folder)/file")
            let output = try lab.hull("snapshot", "import", "\(folder)/file", "trusted")
            #expect(output.code == 125 && output.errors.contains("--trust"), "\(output.errors)")
            #expect(try lab.good("snapshot", "import", "--trust", "\(folder)/file", "trusted").word == "trusted")
        }

        /// Folders of the snapshot store that nobody made on purpose.
        private func left() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: "\(lab.root)/snapshots").filter {
                $0.hasPrefix(".") && $0 != ".lock"
            }
        }

        @Test func aKilledVerbLeavesNothing() throws {
            defer {
                remove("killed", "half")
                _ = try? lab.hull("snapshot", "rm", "some")
            }
            try count("killed")
            for point in ["snapshot:saved", "snapshot:rename"] {
                let output = try lab.hull("snapshot", "create", "killed", "some", environment: ["HULL_FAULT": point])
                #expect(output.code == 137, "\(point): \(output.code) \(output.errors)")
                #expect(try lab.hull("snapshot", "inspect", "some").errors.contains("No such snapshot"))
                #expect(try left() == [], "\(point)")
                try waitFor("killed", past: try counted("killed"))
            }
            try lab.good("snapshot", "create", "killed", "some")
            #expect(try lab.hull("restore", "some", "--name", "half", environment: ["HULL_FAULT": "restore:made"]).code == 137)
            #expect(try !lab.good("ps", "-a").text.contains("half"))
            try lab.good("restore", "some", "--name", "half")
            try waitFor("half", past: try counted("half"))
            let fork = try lab.hull("fork", "killed", "--name", "none", environment: ["HULL_FAULT": "snapshot:saved"])
            #expect(fork.code == 137)
            #expect(try !lab.good("ps", "-a").text.contains("none") && left() == [])
            #expect(try lab.hull("snapshot", "rm", "some", environment: ["HULL_FAULT": "snapshot:removed"]).code == 137)
            #expect(try lab.good("snapshot", "ls", "-q").text == "" && left() == [])
            try waitFor("half", past: try counted("half"))
        }

        /// Half a second into its work, whatever that is then.
        @Test func killedAtAnyMoment() throws {
            defer { remove("target") }
            try count("target")
            for delay in [5000, 20_000, 60_000, 120_000, 250_000, 500_000] {
                for words in [["snapshot", "create", "target", "any"], ["fork", "target", "--name", "anyfork"]] {
                    let verb = try Program(try lab.line(words))
                    usleep(useconds_t(delay))
                    verb.signal(SIGKILL)
                    _ = try verb.finish()
                    // The next verb takes back what is left; a copy that has begun may be whole, or none.
                    let names = try lab.good("ps", "-a", "--format", "{{.Names}} {{.Status}}").lines
                    #expect(try left() == [])
                    for name in names where name.hasPrefix("anyfork") {
                        try lab.good("rm", "-f", "anyfork")
                    }
                    _ = try lab.hull("snapshot", "rm", "any")
                    try waitFor("target", past: try counted("target"))
                }
            }
        }

        @Test func refusals() throws {
            defer { remove("no") }
            try lab.good("run", "-d", "--name", "no", "--network", "none", lab.image, "sleep", "1000")
            try lab.good("pause", "no")
            #expect(try lab.hull("snapshot", "create", "no", "x1").errors.contains("paused"))
            try lab.good("unpause", "no")
            #expect(try lab.hull("snapshot", "create", "no", "../x").errors.contains("cannot name a snapshot"))
            #expect(try lab.hull("restore", "../x").errors.contains("No such snapshot"))
            try lab.good("stop", "-t", "0", "no")
            #expect(try lab.hull("snapshot", "create", "no", "x1").errors.contains("is not running"))
            #expect(try left() == [])
        }

        /// A snapshot of another QEMU, and one whose file was touched.
        @Test func whatDoesNotFitIsRefused() throws {
            defer {
                remove("fits", "wrong")
                _ = try? lab.hull("snapshot", "rm", "fit")
            }
            try count("fits")
            try lab.good("snapshot", "create", "--stop", "fits", "fit")
            let manifest = "\(lab.root)/snapshots/fit/manifest.json"
            let text = try lab.read(manifest)
            let version = try #require(text.firstMatch(of: /"qemu":"([^"]*)"/)).1
            for (from, to, words) in [
                ("\"qemu\":\"\(version)\"", "\"qemu\":\"8.0.1\"", "saved by QEMU 8.0.1"),
                ("\"tsc-khz\":\"", "\"tsc-khz\":\"9", "time stamp counter"),
            ] {
                try lab.write(text.replacingOccurrences(of: from, with: to), to: manifest)
                let output = try lab.hull("restore", "fit", "--name", "wrong")
                #expect(output.code == 125 && output.errors.contains(words), "\(output.errors)")
                #expect(try !lab.good("ps", "-a").text.contains("wrong"))
            }
            let whole = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
            let container = try #require(whole["container"] as? [String: Any])
            for (changed, words) in [
                (["version": 9], "format 9"), (["version": 2], "cannot be read"),
                (["container": container.merging(["version": 2]) { $1 }], "holds a container in format 2"),
            ] as [([String: Any], String)] {
                let bytes = try JSONSerialization.data(withJSONObject: whole.merging(changed) { $1 })
                try lab.write(String(decoding: bytes, as: UTF8.self), to: manifest)
                let output = try lab.hull("restore", "fit", "--name", "wrong")
                #expect(output.code == 125 && output.errors.contains(words), "\(output.errors)")
                #expect(try !lab.good("ps", "-a").text.contains("wrong"))
            }
            try lab.write(text, to: manifest)
            let handle = try #require(FileHandle(forUpdatingAtPath: "\(lab.root)/snapshots/fit/memory"))
            try handle.seek(toOffset: 5_000_000)
            try handle.write(contentsOf: Data([1]))
            try handle.close()
            #expect(try lab.hull("restore", "fit").errors.contains("memory of snapshot fit was changed"))
            #expect(try lab.good("snapshot", "ls").text.contains("was changed"))
        }
    }
}

extension Lab {
    /// As `good`, of words that were put together.
    @discardableResult
    func good2(_ words: [String], _ place: SourceLocation = #_sourceLocation) throws -> Program.Output {
        let output = try hull(words)
        try #require(output.code == 0, "hull \(words.joined(separator: " ")): \(output.errors)", sourceLocation: place)
        return output
    }
}
