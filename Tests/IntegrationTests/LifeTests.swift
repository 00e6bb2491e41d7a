import Foundation
import Testing

extension IntegrationTests {
    /// The verbs around a container's life.
    @Suite struct Life {
        let lab = Lab.shared

        /// Starts a container that stays, and is removed at the end of `body`.
        func withContainer(_ name: String, _ flags: [String] = [], _ words: String..., body: () throws -> Void) throws {
            let output = try lab.hull(["run", "-d", "--name", name, "--network", "none"] + flags + [lab.image] + words)
            try #require(output.code == 0, "\(output.errors)")
            defer { _ = try? lab.hull("rm", "-f", "-v", name) }  // the suite's end looks for what is left
            try body()
        }

        /// What cannot be read is said, and stops nobody but whoever would take away what it may use.
        @Test(arguments: ["container.json", "state.json"]) func aRecordThatCannotBeRead(_ file: String) throws {
            let (broken, name) = ("unread", "reads")
            let id = try lab.good("create", "--name", broken, "--network", "none", lab.image, "true").word
            let path = "\(lab.root)/containers/\(id)/\(file)"
            let good = try lab.read(path)
            try Data("{\"ver".utf8).write(to: URL(fileURLWithPath: path))
            let run = try lab.hull("run", "--name", name, "--network", "none", lab.image, "echo", "ran")
            #expect(run.code == 0 && run.text == "ran\n", "\(run)")
            let said = "the record of container \(id.prefix(12)) cannot be read: hull rm --force \(id.prefix(12)) removes it"
            #expect(run.errors.contains(said), "\(run.errors)")
            let listed = try lab.hull("ps", "-aq", "--no-trunc")
            #expect(listed.code == 0 && !listed.text.contains(id))
            for words in [["inspect", String(id.prefix(12))], ["rm", id], ["rmi", lab.image]] {
                let refused = try lab.hull(words)
                #expect(refused.code != 0 && refused.errors.contains(said), "\(words): \(refused)")
            }
            // Mended, it is there again.
            try Data(good.utf8).write(to: URL(fileURLWithPath: path))
            #expect(try lab.good("ps", "-aq", "--no-trunc").text.contains(id))
            try Data().write(to: URL(fileURLWithPath: path))
            #expect(try lab.good("rm", "--force", String(id.prefix(12))).text == "\(id.prefix(12))\n")
            #expect(!FileManager.default.fileExists(atPath: "\(lab.root)/containers/\(id)"))
            let after = try lab.hull("rm", name)
            #expect(after.code == 0 && after.errors == "", "\(after)")
        }

        @Test func listsAndFilters() throws {
            let id = try lab.good(
                "run", "-d", "--name", "lister", "--label", "kind=a", "--network", "none", lab.image, "sleep", "infinity"
            ).word
            #expect(id.count == 64)
            let made = try lab.good(
                "create", "--name", "lister-made", "--label", "kind=b", "--network", "none", lab.image, "true"
            ).word
            defer { _ = try? lab.hull("rm", "-f", "lister", "lister-made") }  // as above
            let names = { (flags: [String]) in try Set(lab.hull(["ps", "--format", "{{.Names}}"] + flags).lines) }
            #expect(try names([]).contains("lister"))
            #expect(try !names([]).contains("lister-made"))
            #expect(try names(["-a"]).isSuperset(of: ["lister", "lister-made"]))
            #expect(try names(["-a", "-f", "label=kind=b"]) == ["lister-made"])
            #expect(try names(["-a", "-f", "label=kind"]) == ["lister", "lister-made"])
            #expect(try names(["-f", "status=created"]) == ["lister-made"])
            #expect(try names(["-a", "-f", "id=\(made.prefix(20))"]) == ["lister-made"])
            #expect(try names(["-n", "1"]) == ["lister-made"])
            #expect(try lab.good("ps", "-q", "--no-trunc", "-f", "name=lister").word == id)
            let shown = try lab.good("ps", "-f", "name=lister")
            #expect(
                shown.lines[0].split(separator: "  ", omittingEmptySubsequences: true).map {
                    $0.trimmingCharacters(in: .whitespaces)
                }
                    == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"])
            #expect(
                shown.lines[1].hasPrefix(id.prefix(12)) && shown.lines[1].contains("\"sleep infinity\"")
                    && shown.lines[1].contains("Up "))
            let object =
                try JSONSerialization.jsonObject(with: Data(lab.good("ps", "-f", "name=lister", "--format", "json").bytes))
                as? [String: String]
            #expect(object?["State"] == "running" && object?["Labels"]?.contains("kind=a") == true)
            #expect(try lab.hull("ps", "-f", "colour=red").code == 125)
        }

        @Test func logs() throws {
            try withContainer(
                "logger", [], "sh", "-c",
                "for i in 1 2 3; do echo out$i; echo err$i >&2; done; sleep 1; echo late; sleep infinity"
            ) {
                let following = try lab.start("logs", "-f", "logger")
                try following.expect("late")
                let all = try lab.good("logs", "logger")
                #expect(all.text == "out1\nout2\nout3\nlate\n")
                #expect(all.errors == "err1\nerr2\nerr3\n")
                #expect(try lab.good("logs", "--tail", "1", "logger").text == "late\n")
                #expect(try lab.good("logs", "-n", "0", "logger").text == "")
                let time = try #require(lab.good("logs", "-t", "--tail", "1", "logger").text.split(separator: " ").first)
                #expect(try lab.good("logs", "--since", String(time), "logger").text == "late\n")
                #expect(try lab.good("logs", "--since", "1h", "logger").text == all.text)
                #expect(try lab.good("logs", "--until", "1h", "logger").text == "")
                try lab.good("exec", "logger", "sh", "-c", "echo more >/proc/1/fd/1")
                try following.expect("more")
                try lab.good("kill", "logger")
                #expect(try following.finish(seconds: 10).text == "out1\nout2\nout3\nlate\nmore\n")
                #expect(try lab.good("logs", "--tail", "1", "logger").text == "more\n")
            }
        }

        @Test func attaching() throws {
            try withContainer("joined", ["-i"], "sh", "-c", "echo begun; cat; exit 4") {
                let first = try lab.start("attach", "joined", open: true)
                first.type("hello\n")
                try first.expect("hello")
                first.signal(SIGKILL)
                _ = try first.finish()
                let second = try lab.start("attach", "joined", open: true)
                second.type("again\n")
                try second.expect("again")
                // Who attaches is one of several: the end of its input is not the end of the container's.
                second.endInput()
                #expect(try lab.good("exec", "joined", "echo", "alive").text == "alive\n")
                try lab.good("kill", "joined")
                #expect(try second.finish(seconds: 10).code == 137)
                #expect(try lab.good("logs", "joined").text == "begun\nhello\nagain\n")
            }
        }

        /// The answer to what ends a container comes before its monitor's end, whoever reads along.
        @Test func killingWhatIsRead() throws {
            for round in 0..<5 {
                try withContainer("read\(round)", ["-i"], "cat") {
                    let reader = try lab.start("attach", "read\(round)", open: true)
                    reader.type("line\n")
                    try reader.expect("line")
                    try lab.good("kill", "read\(round)")
                    #expect(try reader.finish(seconds: 10).code == 137)
                }
            }
        }

        @Test func executing() throws {
            try withContainer("host1", ["-e", "A=1", "-w", "/tmp"], "sleep", "infinity") {
                let shown = try lab.good("exec", "-e", "B=2", "host1", "sh", "-c", "echo $A$B; pwd; id -u")
                #expect(shown.text == "12\n/tmp\n0\n")
                #expect(
                    try lab.good("exec", "-u", "app", "-w", "/home/app", "host1", "sh", "-c", "pwd; id -un; id -G").text
                        == "/home/app\napp\n1000 29 44\n")
                #expect(try lab.hull("exec", "host1", "sh", "-c", "exit 42").code == 42)
                #expect(try lab.good("exec", "-i", "host1", "cat", input: [0, 255, 10]).bytes == [0, 255, 10])
                #expect(try lab.good("exec", "-d", "host1", "sh", "-c", "echo done >/made; exec sleep 1234").text == "")
                let top = try lab.good("top", "host1")
                #expect(top.lines[0].contains("PID") && top.lines[0].contains("CMD"), "\(top.text)")
                #expect(top.lines.contains { $0.contains("sleep infinity") })
                // It has been started when its program is another; the kernel shows that one's arguments a moment later (execve(2), twice here).
                try eventually("its arguments", within: 10) { try lab.good("top", "host1").text.contains("1234") }
                #expect(
                    try lab.good("exec", "--privileged", "host1", "grep", "CapEff", "/proc/self/status").text.contains(
                        "1ffffffffff"))
                #expect(try lab.hull("exec", "host1", "--", "true").code == 127)
            }
            #expect(try lab.hull("exec", "host1", "true").errors.contains("No such container"))
        }

        @Test func stopping() throws {
            try withContainer("polite", [], "sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done") {
                try lab.start("logs", "-f", "polite").expect("up")
                try lab.good("stop", "polite", seconds: 8)
                #expect(try lab.good("wait", "polite").text == "3\n")
                #expect(try lab.good("logs", "polite").text == "up\nbye\n")
                #expect(try lab.good("ps", "-a", "-f", "name=polite", "--format", "{{.Status}}").text.hasPrefix("Exited (3) "))
                // Stopping what has stopped is no error; killing it is.
                try lab.good("stop", "polite")
                #expect(try lab.hull("kill", "polite").code == 1)
            }
            try withContainer("stubborn", ["--stop-timeout", "1"], "sleep", "infinity") {
                let waiting = try lab.start("wait", "stubborn")
                try lab.good("stop", "stubborn", seconds: 12)
                #expect(try lab.state("stubborn")["ExitCode"] as? Int == 137)
                #expect(try waiting.finish(seconds: 5).text == "137\n")
            }
        }

        @Test func killing() throws {
            try withContainer(
                "target", ["--stop-signal", "USR2"], "sh", "-c",
                "trap 'echo one' USR1; trap 'exit 12' USR2; echo up; while :; do sleep 0.1; done"
            ) {
                let logs = try lab.start("logs", "-f", "target")
                try logs.expect("up")
                try lab.good("kill", "-s", "USR1", "target")
                try logs.expect("one")
                #expect(try lab.hull("kill", "-s", "NONSENSE", "target").code == 1)
                try lab.good("stop", "target", seconds: 8)
                #expect(try lab.state("target")["ExitCode"] as? Int == 12)
            }
        }

        @Test func startingAgainKeepsFiles() throws {
            try lab.good(
                "create", "--name", "counter", "--network", "none", lab.image, "sh", "-c",
                "echo x >>/count; wc -l </count; exit 5")
            #expect(try lab.state("counter")["Status"] as? String == "created")
            for round in 1...3 {
                let output = try lab.hull("start", "-a", "counter")
                #expect(output.text == "\(round)\n", "\(output.errors)")
                #expect(output.code == 5)
            }
            #expect(try lab.good("logs", "counter").text == "1\n2\n3\n")
            try lab.good("rm", "counter")
            #expect(try lab.hull("start", "counter").code != 0)
        }

        @Test func inspecting() throws {
            try withContainer("seen", ["--label", "a=b"], "sleep", "infinity") {
                let all = try lab.inspect("seen")
                let state = try lab.state("seen")
                #expect(all["Name"] as? String == "seen")
                #expect(state["Running"] as? Bool == true && state["Status"] as? String == "running")
                let pid = try #require(state["Pid"] as? Int)
                #expect(try lab.read("/proc/\(pid)/cmdline").hasPrefix("hull-monitor"))
                // The monitor's end is the end of everything it owns.
                let id = try #require(all["Id"] as? String)
                #expect(try !lab.cgroups(id).isEmpty)
                #expect(try lab.hull("rm", "seen").code == 1)
                try lab.good("rm", "-f", "seen")
                #expect(try lab.cgroups(id).isEmpty)
                #expect(!FileManager.default.fileExists(atPath: "/proc/\(pid)/exe"))
            }
        }

        @Test func namesAndPrefixes() throws {
            // The suite's end looks.
            defer { _ = try? lab.hull(["rm", "-f"] + (lab.hull("ps", "-aq", "-f", "label=prefix").lines)) }
            let make = { (flags: [String]) in
                try lab.hull(["create", "--label", "prefix", "--network", "none"] + flags + [lab.image, "true"])
            }
            let cidfile = "\(try lab.scratch("cid"))/file"
            let first = try make(["--name", "taken", "--cidfile", cidfile])
            #expect(try lab.read(cidfile) == first.word)
            let again = try make(["--cidfile", cidfile])
            #expect(again.code == 125 && again.errors.contains("cidfile"))
            let twice = try make(["--name", "taken"])
            #expect(twice.code == 125 && twice.errors.contains("name \"taken\" is in use"), "\(twice.errors)")
            #expect(try make(["--name", "bad name"]).errors.contains("invalid container name"))
            // Among seventeen ids two begin alike.
            var ids = [first.word]
            while Set(ids.map { $0.prefix(1) }).count == ids.count { ids.append(try make([]).word) }
            let doubtful = String(try #require(ids.last).prefix(1))
            let output = try lab.hull("inspect", doubtful)
            #expect(output.code != 0 && output.errors.contains(doubtful), "\(output.errors)")
            #expect(try lab.inspect(String(first.word.prefix(16)))["Id"] as? String == first.word)
            #expect(try lab.hull("inspect", "no-such").errors.contains("No such container"))
        }

        @Test func whatTheHostCanDo() throws {
            #expect(try lab.good("version").text.hasPrefix("hull version "))
            #expect(try lab.good("doctor").text.contains("[ok]   qemu"))
            #expect(try lab.good("--help").text.contains("--exec-root"))
            #expect(try lab.good("gc").text.contains("reclaimed"))
        }
    }
}
