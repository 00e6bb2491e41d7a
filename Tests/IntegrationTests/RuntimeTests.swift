import CLinux
import Foundation
import Glibc
import Testing

extension IntegrationTests {
    /// `hull-runtime` by itself, on a bundle, as an engine would call it.
    @Suite struct Runtime {
        let lab = Lab.shared

        /// A bundle of the host's static busybox that runs `script`, changed by `change`.
        func bundle(_ name: String, _ script: String, _ change: (inout [String: Any]) -> Void = { _ in }) throws -> String {
            let folder = try lab.scratch("bundle-\(name)")
            let root = try lab.scratch("bundle-\(name)/rootfs/bin")
            try? FileManager.default.copyItem(atPath: "/bin/busybox", toPath: "\(root)/busybox")  // there from the last time
            for applet in ["sh", "cat", "sleep", "stty", "ls", "hostname", "id", "kill", "head", "grep", "touch", "true"] {
                // As above.
                try? FileManager.default.createSymbolicLink(atPath: "\(root)/\(applet)", withDestinationPath: "busybox")
            }
            try? FileManager.default.removeItem(atPath: "\(folder)/config.json")  // as above
            #expect(try runtime("spec", "--bundle", folder).code == 0)
            var spec = try #require(
                try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: "\(folder)/config.json")))
                    as? [String: Any])
            var process = try #require(spec["process"] as? [String: Any])
            process["terminal"] = false
            process["args"] = ["sh", "-c", script]
            spec["process"] = process
            spec["root"] = ["path": "rootfs"]
            change(&spec)
            try JSONSerialization.data(withJSONObject: spec).write(to: URL(fileURLWithPath: "\(folder)/config.json"))
            return folder
        }

        var environment: [String: String] { ["HULL_ROOT": lab.root, "HULL_EXEC_ROOT": lab.execRoot] }

        func line(_ words: [String]) throws -> [String] {
            try lab.inside(["\(lab.program)-runtime", "--root", "\(lab.folder)/engine"] + words)
        }

        @discardableResult
        func runtime(_ words: String..., input: [UInt8] = [], with more: [String: String] = [:]) throws -> Program.Output {
            try Program(
                try line(words), environment: environment.merging(more, uniquingKeysWith: { $1 }), input: input
            ).finish(seconds: 60)
        }

        /// As `runtime`, for verbs that leave something behind which holds their streams.
        @discardableResult
        func leaving(_ words: String..., with more: [String: String] = [:]) throws -> (code: Int32, errors: String) {
            let file = "\(lab.folder)/said"
            let shell = ["sh", "-c", "exec \"$@\" </dev/null >/dev/null 2>\(file)", "sh"]
            let output = try Program(
                shell + (try line(words)), environment: environment.merging(more, uniquingKeysWith: { $1 })
            ).finish(seconds: 60)
            return (output.code, try lab.read(file))
        }

        func state(_ id: String) throws -> [String: Any] {
            let output = try runtime("state", id)
            return try #require(try JSONSerialization.jsonObject(with: Data(output.bytes)) as? [String: Any], "\(output.errors)")
        }

        /// Waits until the container's state is that.
        func becomes(_ id: String, _ status: String, _ place: SourceLocation = #_sourceLocation) throws {
            try eventually("\(id) is \(status)", within: 5, every: 0.05, place) { try state(id)["status"] as? String == status }
        }

        @Test func aLife() throws {
            let bundle = try bundle("life", "trap 'echo ended; exit 3' TERM; echo up; while :; do sleep 0.1; done")
            let made = try leaving("create", "--bundle", bundle, "--pid-file", "\(bundle)/pid", "life")
            defer { _ = try? runtime("delete", "--force", "life") }
            #expect(made.code == 0, "\(made.errors)")
            let created = try state("life")
            #expect(created["status"] as? String == "created" && created["bundle"] as? String == bundle)
            let pid = try #require(Int(try lab.read("\(bundle)/pid")))
            #expect(created["pid"] as? Int == pid)
            for namespace in ["pid", "mnt", "net", "ipc", "uts"] {
                let kind = namespace == "pid" ? "pid_for_children" : namespace
                #expect(
                    try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/\(kind)")
                        != FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/\(kind)"))
            }
            #expect(try leaving("create", "--bundle", bundle, "life").errors.contains("already exists"))
            #expect(try runtime("start", "life").code == 0)
            #expect(try state("life")["status"] as? String == "running")
            #expect(try runtime("start", "life").code == 1)
            let executed = try runtime(
                "exec", "life", "sh", "-c", "cat; echo out; echo err >&2; exit 9", input: Array("in ".utf8))
            #expect(executed.code == 9 && executed.text == "in out\n" && executed.errors == "err\n")
            #expect(try runtime("ps", "--format", "json", "life").word == "[\(pid)]")
            #expect(try runtime("pause", "life").code == 0)
            #expect(try state("life")["status"] as? String == "paused")
            #expect(try runtime("resume", "life").code == 0)
            #expect(try runtime("delete", "life").errors.contains("not stopped"))
            #expect(try runtime("kill", "life", "15").code == 0)
            try becomes("life", "stopped")
            #expect(try runtime("kill", "life", "15").errors.contains("not running"))
            #expect(try runtime("delete", "life").code == 0)
            #expect(try runtime("state", "life").errors.contains("does not exist"))
            #expect(try runtime("delete", "life").code == 1)
            #expect(try runtime("delete", "--force", "life").code == 0)
        }

        @Test func streamsAndCodes() throws {
            let bundle = try bundle("codes", "cat; id; echo err >&2; touch /written; exit 7")
            let output = try runtime("run", "--bundle", bundle, "codes", input: Array("given\n".utf8))
            #expect(output.code == 7 && output.text == "given\nuid=0 gid=0\n" && output.errors == "err\n")
            #expect(FileManager.default.fileExists(atPath: "\(bundle)/rootfs/written"))
        }

        @Test func howItIsScheduled() throws {
            let script = "set -- $(cat /proc/$$/stat); shift 39; echo policy $2 at $1; busybox ionice -p $$"
            let bundle = try bundle("scheduled", script) { spec in
                var process = spec["process"] as? [String: Any] ?? [:]
                process["scheduler"] = ["policy": "SCHED_FIFO", "priority": 9]
                process["ioPriority"] = ["class": "IOPRIO_CLASS_BE", "priority": 6]
                spec["process"] = process
            }
            let output = try runtime("run", "--bundle", bundle, "scheduled")
            #expect(output.code == 0, "\(output.errors)")
            for part in ["policy 1 at 9", "best-effort: prio 6"] {
                #expect(output.text.contains(part), "\(output.text)")
            }
        }

        @Test func whatEnginesReadOfFailures() throws {
            let bundle = try bundle("fails", "true") { spec in
                var process = spec["process"] as? [String: Any] ?? [:]
                process["args"] = ["no-such-command"]
                spec["process"] = process
            }
            let log = "\(bundle)/log"
            let output = try Program(
                try lab.inside([
                    "\(lab.program)-runtime", "--log", log, "--log-format", "json", "create", "--bundle", bundle, "fails",
                ]),
                environment: environment
            ).finish(seconds: 60)
            #expect(output.code == 1)
            let last = try #require(try lab.read(log).split(separator: "\n").last)
            let entry = try #require(try JSONSerialization.jsonObject(with: Data(last.utf8)) as? [String: String])
            #expect(entry["level"] == "error")
            #expect(entry["msg"]?.contains("exec: \"no-such-command\": executable file not found in $PATH") == true)
            #expect(try runtime("exec", "nobody", "true").errors.contains("does not exist"))
            let host = try self.bundle("fails", "true") { spec in
                var linux = spec["linux"] as? [String: Any] ?? [:]
                linux["namespaces"] = [["type": "mount"], ["type": "network"], ["type": "ipc"], ["type": "uts"]]
                spec["linux"] = linux
            }
            #expect(try leaving("create", "--bundle", host, "fails").errors.contains("cannot share the host's processes"))
        }

        @Test func aTerminalGoesToTheConsoleSocket() throws {
            let bundle = try bundle("console", "stty size; read line; echo got $line; exit 4") { spec in
                var process = spec["process"] as? [String: Any] ?? [:]
                process["terminal"] = true
                process["consoleSize"] = ["height": 31, "width": 77]
                spec["process"] = process
            }
            let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(listener) }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let path = "\(bundle)/console.sock"
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let bound = withUnsafePointer(to: &address) { hull_bind(listener, $0, UInt32(MemoryLayout<sockaddr_un>.size)) }
            try #require(bound == 0 && listen(listener, 1) == 0)
            let made = try leaving("create", "--bundle", bundle, "--console-socket", path, "console")
            defer { _ = try? runtime("delete", "--force", "console") }
            try #require(made.code == 0, "\(made.errors)")
            let connection = accept(listener, nil, nil)
            defer { close(connection) }
            var descriptors: [Int32] = [-1]
            var count = 1
            var name = [UInt8](repeating: 0, count: 64)
            try #require(hull_receive_descriptors(connection, &name, 64, &descriptors, &count, 0) > 0 && count == 1)
            let master = descriptors[0]
            defer { close(master) }
            #expect(try runtime("start", "console").code == 0)
            _ = "words\r".withCString { write(master, $0, 6) }
            var said = ""
            var buffer = [UInt8](repeating: 0, count: 4096)
            while case let got = read(master, &buffer, buffer.count), got > 0 {
                said += String(decoding: buffer[..<got], as: UTF8.self)
            }
            #expect(said.contains("31 77") && said.contains("got words"), "\(said)")
            try becomes("console", "stopped")
        }

        @Test func hullSeesItAndLeavesItAlone() throws {
            let bundle = try bundle("seen", "sleep 1000")
            #expect(try leaving("create", "--bundle", bundle, "seen").code == 0)
            defer { _ = try? runtime("delete", "--force", "seen") }
            #expect(try runtime("start", "seen").code == 0)
            #expect(try lab.hull("ps").text.contains("seen"))
            #expect(try lab.hull("rm", "-f", "seen").errors.contains("belongs to a container engine"))
            #expect(try state("seen")["status"] as? String == "running")
            // The same id under another root is another container.
            let other = try Program(
                try lab.inside(["\(lab.program)-runtime", "--root", "\(lab.folder)/other", "state", "seen"]),
                environment: environment
            ).finish(seconds: 20)
            #expect(other.errors.contains("does not exist"))
        }

        @Test func theEndOfEitherIsTheOthers() throws {
            let bundle = try bundle("ends", "sleep 1000")
            #expect(try leaving("create", "--bundle", bundle, "ends").code == 0)
            defer { _ = try? runtime("delete", "--force", "ends") }
            #expect(try runtime("start", "ends").code == 0)
            #expect(try leaving("exec", "--detach", "--pid-file", "\(bundle)/held", "ends", "sleep", "777").code == 0)
            let holder = try #require(Int32(try lab.read("\(bundle)/held")))
            #expect(try runtime("ps", "ends").text.contains("sleep 777"))
            kill(holder, SIGKILL)
            try eventually("the end of the exec", within: 5, every: 0.05) {
                try !runtime("ps", "ends").text.contains("sleep 777")
            }
            // And the container's own, with its monitor.
            let pid = try #require(try state("ends")["pid"] as? Int)
            kill(Int32(pid), SIGKILL)
            try becomes("ends", "stopped")
        }

        /// Sandboxes that are there, by their folders.
        func sandboxes() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: lab.execRoot).filter { $0.count == 64 }
        }

        @Test func consoleSocketsThatVanish() throws {
            let bundle = try bundle("vanish", "sleep 1000") { spec in
                var process = spec["process"] as? [String: Any] ?? [:]
                process["terminal"] = true
                spec["process"] = process
            }
            let before = try sandboxes()
            let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let path = "\(bundle)/console.sock"
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let bound = withUnsafePointer(to: &address) { hull_bind(listener, $0, UInt32(MemoryLayout<sockaddr_un>.size)) }
            try #require(bound == 0)
            // Nothing there; a file; a socket at which nobody listens, and nobody any more.
            for socket in ["\(bundle)/none", "\(bundle)/config.json", path] {
                let made = try leaving("create", "--bundle", bundle, "--console-socket", socket, "vanish")
                #expect(made.code == 1 && made.errors.contains("console socket"), "\(made)")
                #expect(try runtime("state", "vanish").errors.contains("does not exist"))
            }
            // A listener that goes before it has taken the terminal.
            try #require(listen(listener, 1) == 0)
            let taking = Thread {
                close(accept(listener, nil, nil))
                close(listener)
            }
            taking.start()
            _ = try leaving("create", "--bundle", bundle, "--console-socket", path, "vanish")
            #expect(try runtime("delete", "--force", "vanish").code == 0)
            #expect(try sandboxes() == before)
        }

        /// Whoever asks at once gets a turn: whatever comes of it, the container can go on.
        @Test func pausesAtOnce() throws {
            #expect(try leaving("create", "--bundle", try bundle("turns", "sleep 1000"), "turns").code == 0)
            #expect(try runtime("start", "turns").code == 0)
            for round in 0..<5 {
                let asking = try ["pause", "resume", "pause", "resume", "pause"].map {
                    try Program(try line([$0, "turns"]), environment: environment)
                }
                for one in asking { _ = try one.finish(seconds: 60) }
                _ = try runtime("resume", "turns")
                let said = try runtime("exec", "turns", "true")
                #expect(said.code == 0, "round \(round): \(said.errors)")
            }
            #expect(try runtime("delete", "--force", "turns").code == 0)
        }

        /// After `calls`, which were killed, the container can be started, if it was not, and goes on.
        private func goesOn(_ turn: Int, after calls: () throws -> Void) throws {
            _ = try leaving("start", "killed")
            try calls()
            _ = try runtime("resume", "killed")
            let said = try runtime("exec", "killed", "true")
            #expect(said.code == 0, "turn \(turn): \(said.errors)")
        }

        /// Whatever a verb was doing when its engine was killed, `delete --force` leaves nothing.
        @Test func whatAKilledEngineLeavesIsDeleted() throws {
            let bundle = try bundle("killed", "sleep 1000")
            let before = try sandboxes()
            var seed: UInt64 = 20261123
            // Killed within that many milliseconds: about as long as the verb takes.
            func cut(_ limit: UInt64, _ words: String...) throws {
                seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let killed = ["sh", "-c", "exec \"$@\" </dev/null >/dev/null 2>&1", "sh", "timeout", "-s", "KILL"]
                let seconds = "\(Double(seed >> 33 % limit + 1) / 1000)"
                _ = try Program(killed + [seconds] + (try line(words)), environment: environment).finish(seconds: 60)
            }
            for turn in 0..<12 {
                if turn % 3 == 0 {
                    try cut(900, "create", "--bundle", bundle, "killed")
                } else {
                    #expect(try leaving("create", "--bundle", bundle, "killed").code == 0)
                    try cut(60, "start", "killed")
                    if turn % 3 == 1 {
                        try goesOn(turn) {
                            try cut(30, "pause", "killed")
                            try cut(30, "resume", "killed")
                            try cut(60, "update", "--cpu-shares", "512", "killed")
                            try cut(30, "pause", "killed")
                        }
                    }
                    try cut(100, "exec", "killed", "sleep", "1000")
                    try cut(30, "kill", "killed", "9")
                    try cut(60, "delete", "--force", "killed")
                }
                let deleted = try runtime("delete", "--force", "killed")
                #expect(deleted.code == 0, "turn \(turn): \(deleted.errors)")
                #expect(try runtime("state", "killed").errors.contains("does not exist"))
            }
            // What a create that was killed had begun before there was a container goes with the next verb, its monitor by itself.
            try lab.good("ps", "-aq")
            try eventually("no sandbox of a create that was killed", within: 30) {
                try Set(sandboxes()).subtracting(before).isEmpty
            }
        }
    }
}
