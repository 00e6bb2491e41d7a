import Foundation
import Testing

extension IntegrationTests {
    /// Templates that are awake: a start is a copy of a machine that stands by (docs/adr/031).
    @Suite struct Awake {
        let lab = Lab.shared
        private static let shape = ["--network", "none", "--memory", "190m"]

        private func row(_ key: String) throws -> [String: String]? {
            try lab.good("template", "ls", "--format", "json").lines.compactMap {
                try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: String]
            }.first { $0["Key"] == key }
        }

        /// Makes the template of the shape, with a share where a container's flags show one, which is awake then. Its key.
        private func wake(_ flags: [String] = []) throws -> String {
            try lab.good("template", "rm", "--all")
            let output = try lab.hull(["template", "build"] + Self.shape + (flags.isEmpty ? [] : ["--share"]), seconds: 200)
            try #require(output.code == 0, "\(output.errors)")
            #expect(try row(output.word)?["Awake"] == "yes")
            return output.word
        }

        /// The numbers of the keeper of `key` and of its VMM.
        private func processes(_ key: String) throws -> (keeper: Int32, machine: Int32) {
            let keeper = try lab.host("pgrep", "-f", "template-keeper \(key)").word
            return (try #require(Int32(keeper)), try #require(Int32(try lab.host("pgrep", "-P", keeper).word)))
        }

        private func log(_ name: String) throws -> String {
            let paths = try #require(try lab.inspect(name)["Paths"] as? [String: Any])
            return try lab.read(try #require(paths["MonitorLog"] as? String))
        }

        /// The VMM of a container, as the host knows it.
        private func machine(_ name: String) throws -> String {
            let id = try #require(try lab.inspect(name)["Id"] as? String)
            return try lab.host("pgrep", "-f", "name hull-\(id)").word
        }

        /// What a machine that boots has, a copy has too, and no more rights; and each is another.
        @Test func aCopyIsAMachineOfItsOwn() throws {
            _ = try wake()
            defer { _ = try? lab.hull("rm", "--force", "copy1", "copy2", "booted") }
            for (name, flags) in [("copy1", []), ("copy2", []), ("booted", ["--no-template"])] {
                let output = try lab.hull(
                    ["run", "-d", "--name", name] + flags + Self.shape + [
                        lab.image, "sh", "-c", "echo $(hostname) > /mine; exec sleep 1000",
                    ])
                try #require(output.code == 0, "\(output.errors)")
            }
            #expect(try log("copy1") == "")
            let names = ["copy1", "copy2"]
            for question in [
                "cat /proc/sys/kernel/random/uuid", "cat /etc/hostname", "head -c 16 /dev/urandom | md5sum", "cat /mine",
            ] {
                let answers = try names.map { try lab.good("exec", $0, "sh", "-c", question).text }
                #expect(Set(answers).count == 2, "\(question): \(answers)")
            }
            // Nothing of the rehearsal is left.
            let found = try (names + ["booted"]).map {
                try lab.good("exec", $0, "sh", "-c", "ls -a / /tmp; cat /proc/modules; df -m /").text
            }
            #expect(found[0] == found[2] && found[1] == found[2], "\(found)")
            // The VMM has nothing that one which was started has not.
            let rights = try ["copy1", "booted"].map { name in
                let status = try lab.read("/proc/\(try machine(name))/status").split(separator: "\n").filter { line in
                    ["Groups", "Cap", "NoNewPrivs", "Seccomp:", "Cpus_allowed_list", "SigIgn"].contains { line.hasPrefix($0) }
                }
                let limits = try lab.read("/proc/\(try machine(name))/limits").split(separator: "\n")
                let nice = String(try lab.host("ps", "-o", "nice=", "-p", try machine(name)).word)
                let root = try lab.host("ls", "-A", "/proc/\(try machine(name))/root/").text
                #expect(try isCopy(name) == (name == "copy1"))
                return (status + limits).joined(separator: "\n") + nice + root
            }
            #expect(rights[0] == rights[1])
            // And no open file in common with the keeper or a sibling, but what cannot be written to and holds no place.
            let open = try names.map { name in
                try lab.host("sh", "-c", "cd /proc/\(try machine(name))/fd && ls -l | grep -v '/modules/' | sed 's/.* -> //'")
                    .text
                    .split(separator: "\n").filter { $0.hasPrefix("/") && $0 != "/dev/null" && !$0.hasSuffix("/memory") }
            }
            #expect(Set(open[0]).intersection(open[1]).allSatisfy { $0.hasSuffix(".erofs") }, "\(open)")
            let spaces = try ["cgroup", "ipc", "mnt", "net", "pid", "uts"].flatMap { space in
                try (names + ["booted"]).map { try lab.host("readlink", "/proc/\(try machine($0))/ns/\(space)").word }
                    + [try lab.host("readlink", "/proc/self/ns/\(space)").word]
            }
            #expect(Set(spaces).count == spaces.count, "\(spaces)")
            #expect(try lab.host("stat", "-c", "%u", "/proc/\(try machine("copy1"))").word != "0")
        }

        /// Whether its machine is a copy: its command line is the keeper's, who leaves its rights to its copies to give up.
        private func isCopy(_ name: String) throws -> Bool {
            try !lab.read("/proc/\(try machine(name))/cmdline").contains("-sandbox")
        }

        /// Nothing of whoever happened to have it woken is in the copies, and who wants none gets none.
        @Test func whoeverWokeIt() throws {
            try lab.good("template", "rm", "--all")
            let output = try lab.hull(
                ["template", "build"] + Self.shape, environment: ["HULL_TEMPLATE_AWAKE": "0"], seconds: 200)
            try #require(output.code == 0, "\(output.errors)")
            try eventually("the end of the keeper of the one before", within: 20) {
                try lab.host("pgrep", "-f", "template-keeper \(output.word)").text == ""
            }
            #expect(try row(output.word)?["Awake"] == "no")
            // Its cgroup is none that copies stay in either, nor one that keeps them from being made.
            let place =
                "for at in /sys/fs/cgroup /sys/fs/cgroup/unified; do test ! -e $at/cgroup.controllers || echo $at/hull-waker; done"
            let script =
                "for at in $(\(place)); do mkdir -p $at; echo $$ > $at/cgroup.procs; done; exec nice -n 15 taskset -c 0 \"$@\""
            let run = try lab.host(
                "sh", "-ec", script, "sh", "env", "HULL_ROOT=\(lab.root)", "HULL_EXEC_ROOT=\(lab.execRoot)",
                lab.program, "run", "--rm", "--network", "none", "--memory", "190m", lab.image, "true")
            #expect(run.code == 0, "\(run.errors)")
            try eventually("an awake template", within: 60) { try row(output.word)?["Awake"] == "yes" }
            defer {
                _ = try? lab.hull("rm", "--force", "plain", "none")
                _ = try? lab.hull("template", "rm", output.word)
                // It is the keeper's place until that has ended.
                let leave = "for at in $(\(place)); do for i in $(seq 100); do rmdir $at && break; sleep 0.1; done; done"
                _ = try? lab.host("sh", "-c", leave)
            }
            #expect(try lab.hull(["run", "-d", "--name", "plain"] + Self.shape + [lab.image, "sleep", "1000"]).code == 0)
            #expect(try isCopy("plain") && !lab.read("/proc/\(machine("plain"))/cgroup").contains("hull-waker"))
            let ours = try lab.host("sh", "-c", "nice; grep Cpus_allowed_list /proc/self/status").lines
            #expect(try lab.host("ps", "-o", "nice=", "-p", try machine("plain")).word == ours[0])
            #expect(try lab.read("/proc/\(try machine("plain"))/status").contains(ours[1]))
            #expect(
                try lab.hull(
                    ["run", "-d", "--name", "none"] + Self.shape + [lab.image, "sleep", "1000"],
                    environment: ["HULL_TEMPLATE_AWAKE": "0"]
                ).code == 0)
            #expect(try !isCopy("none"))
        }

        /// Memory that a share's server is to see is made before it is asked for. Whoever finds none makes its own; each has its own; and all are counted
        /// where they belong.
        @Test func withAShare() throws {
            let flags = ["-v", "\(try lab.scratch("shown")):/x"]
            let key = try wake(flags)
            let names = ["share1", "share2", "share3"]
            defer { _ = try? lab.hull(["rm", "--force"] + names) }  // the suite's end looks for what is left
            let place = "\(lab.root)/cache/awake/\(key)/place"
            func spare() throws -> String? {
                try FileManager.default.contentsOfDirectory(atPath: place).first { $0.hasPrefix("spare-") && !$0.contains(".") }
            }
            try eventually("memory for the next", within: 20) { try spare() != nil }
            let first = try spare()
            let script = "head -c 9000000 /dev/urandom > /dev/shm/data; md5sum < /dev/shm/data | tee /x/$0; exec sleep 1000"
            let starts = try names.map {
                try Program(lab.line(["run", "-d", "--name", $0] + Self.shape + flags + [lab.image, "sh", "-c", script, $0]))
            }
            for start in starts {
                let output = try start.finish()
                #expect(output.code == 0, "\(output.errors)")
            }
            for name in names {
                #expect(try isCopy(name) && log(name) == "")
                try eventually("its sum", within: 20) { try lab.good("logs", name).text != "" }
            }
            for name in names {
                let sums = try [lab.good("logs", name).text, lab.good("exec", name, "sh", "-c", "md5sum < /dev/shm/data").text]
                #expect(try sums[0] == sums[1] && sums[0] == lab.read("\(lab.scratch("shown"))/\(name)"))
            }
            try eventually("memory for the next", within: 20) { try spare() != nil }
            #expect(try spare() != first)
            let keeper = "hull/keeper-\(key)"
            let keepers = try lab.host("pgrep", "-f", "template-keeper \(key)").lines
            for process in try keepers + lab.host("pgrep", "-P", keepers[0]).lines {
                #expect(try lab.read("/proc/\(process)/cgroup").contains(keeper))
            }
            for name in names { #expect(try !lab.read("/proc/\(machine(name))/cgroup").contains(keeper)) }
            try lab.good("template", "rm", key)
            try eventually("the end of the keeper's cgroup", within: 20) {
                try lab.host("sh", "-c", "ls -d /sys/fs/cgroup/\(keeper)* /sys/fs/cgroup/*/\(keeper)* 2>/dev/null").text == ""
            }
        }

        /// A keeper that does not answer is asked once.
        @Test func silent() throws {
            let key = try wake()
            let machine = try processes(key).machine
            #expect(kill(machine, SIGSTOP) == 0)
            defer { kill(machine, SIGKILL) }
            let began = Date()
            for name in ["first", "second"] {
                #expect(try lab.hull(["run", "--rm", "--name", name] + Self.shape + [lab.image, "true"]).code == 0)
            }
            #expect(Date().timeIntervalSince(began) < 15)
            #expect(try row(key)?["Awake"] == "no" || processes(key).machine != machine)
        }

        /// Whatever ends the keeper or its machine, what was made of it goes on, and starts do without.
        @Test(arguments: [true, false]) func killed(_ keeper: Bool) throws {
            let key = try wake()
            defer { _ = try? lab.hull("rm", "--force", "lives", "after") }
            #expect(try lab.hull(["run", "-d", "--name", "lives"] + Self.shape + [lab.image, "sleep", "1000"]).code == 0)
            let victims = try processes(key)
            #expect(kill(keeper ? victims.keeper : victims.machine, SIGKILL) == 0)
            #expect(try lab.hull(["run", "-d", "--name", "after"] + Self.shape + [lab.image, "sleep", "1000"]).code == 0)
            for name in ["lives", "after"] { #expect(try lab.good("exec", name, "echo", "here").word == "here") }
            try eventually("the end of the keeper's machine", within: 10) {
                let state = try? lab.read("/proc/\(victims.machine)/stat").split(separator: ") ").last
                return state == nil || state?.first == "Z"
            }
        }

        /// What a killed keeper left is in nobody's way, even where it cannot be taken back yet.
        @Test func whatCannotBeTakenBack() throws {
            let key = try wake()
            let folders = try lab.host(
                "sh", "-c", "ls -d /sys/fs/cgroup/hull/keeper-\(key)* /sys/fs/cgroup/*/hull/keeper-\(key)* 2>/dev/null"
            )
            .lines
            let inside = "\(try #require(folders.first))/inside"
            try FileManager.default.createDirectory(atPath: inside, withIntermediateDirectories: false)
            let keeper = try processes(key).keeper
            #expect(kill(keeper, SIGKILL) == 0)
            // Its arguments go before its locks do; both have gone when it is a zombie, or nothing.
            try eventually("its end", within: 10) {
                try lab.host("sh", "-c", "grep -s '^State:' /proc/\(keeper)/status | grep -v zombie").text == ""
            }
            let said = try lab.hull(["run", "--rm"] + Self.shape + [lab.image, "true"])
            #expect(said.code == 0 && said.errors.contains("cannot take back what a killed keeper"), "\(said.errors)")
            try eventually("another keeper", within: 60) { try row(key)?["Awake"] == "yes" }
            #expect(rmdir(inside) == 0)
            #expect(try lab.hull("ps").errors == "")
            let left = folders.filter { FileManager.default.fileExists(atPath: $0) }
            #expect(left.isEmpty, "\(left)")
        }

        /// It goes with its template, and by itself when nobody wants it.
        @Test func itsEnd() throws {
            let key = try wake()
            let keeper = try processes(key).keeper
            try lab.good("template", "rm", key)
            try eventually("the end of the keeper", within: 20) { kill(keeper, 0) != 0 }
            #expect(!FileManager.default.fileExists(atPath: "\(lab.root)/cache/awake/\(key)"))
            let none = ["HULL_TEMPLATE_AWAKE": "0"]
            let output = try lab.hull(["template", "build"] + Self.shape, environment: none, seconds: 200)
            try #require(output.code == 0, "\(output.errors)")
            let short = ["HULL_TEMPLATE_AWAKE": "1"]
            #expect(try lab.hull(["run", "--rm"] + Self.shape + [lab.image, "true"], environment: short).code == 0)
            try eventually("an awake template", within: 60, every: 0.02) { try row(output.word)?["Awake"] == "yes" }
            try eventually("one that sleeps again", within: 20) { try row(output.word)?["Awake"] == "no" }
            #expect(try lab.hull(["run", "--rm"] + Self.shape + [lab.image, "true"], environment: none).code == 0)
            #expect(try lab.host("pgrep", "-f", "template-keeper \(output.word)").text == "")
        }

        /// What is known of the memory below it holds for a copy of a copy, too.
        @Test func copiesAreSavedAndForked() throws {
            _ = try wake()
            defer { _ = try? lab.hull("rm", "--force", "origin", "again", "fork") }
            let script = "head -c 20000000 /dev/urandom > /dev/shm/data; md5sum < /dev/shm/data; exec sleep 1000"
            #expect(try lab.hull(["run", "-d", "--name", "origin"] + Self.shape + [lab.image, "sh", "-c", script]).code == 0)
            try eventually("its sum", within: 20) { try lab.good("logs", "origin").text != "" }
            let sum = try lab.good("logs", "origin").text
            try lab.good("fork", "--name", "fork", "origin")
            try lab.good("snapshot", "create", "origin", "of-a-copy")
            defer { _ = try? lab.hull("snapshot", "rm", "of-a-copy") }
            try lab.good("restore", "--name", "again", "of-a-copy")
            for name in ["origin", "fork", "again"] {
                #expect(try lab.good("exec", name, "sh", "-c", "md5sum < /dev/shm/data").text == sum, "\(name)")
            }
        }
    }
}
