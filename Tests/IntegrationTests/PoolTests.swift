import Foundation
import Testing

extension IntegrationTests {
    /// Machines that wait for their containers, as users see them: not at all, until one of them is used.
    @Suite struct Pools {
        let lab = Lab.shared
        private static let shape = ["--network", "none", "--memory", "100m"]

        /// The containers that the store has, members of pools too.
        private func everything() throws -> Set<String> {
            Set(try FileManager.default.contentsOfDirectory(atPath: "\(lab.root)/containers").filter { !$0.hasPrefix(".") })
        }

        private func ready() throws -> Int { Int(try lab.good("pool", "ls", "--format", "{{.Ready}}").word) ?? 0 }

        /// A pool of so many machines; all members' host names to be.
        private func fill(_ count: Int) throws -> Set<String> {
            let before = try everything()
            let set = try lab.hull(["pool", "set", "-n", "\(count)"] + Self.shape + [lab.image], seconds: 300)
            try #require(set.code == 0, "\(set.errors)")
            #expect(try ready() == count)
            return Set(try everything().subtracting(before).map { String($0.prefix(12)) })
        }

        /// The containers that people see; other tests may have left some.
        private func shown(_ format: String = "{{.ID}}") throws -> Set<String> {
            Set(try lab.good("ps", "-a", "--no-trunc", "--format", format).lines)
        }

        private func empty() throws {
            try lab.good("pool", "rm", "--all")
            #expect(try lab.good("pool", "ls", "-q").text == "")
        }

        /// `hull run` with the pool's flags; which machine it was, by its host name.
        private func run(_ flags: [String], _ script: String, environment: [String: String] = [:]) throws -> Program.Output {
            try lab.hull(["run"] + Self.shape + flags + [lab.image, "sh", "-c", script], environment: environment)
        }

        @Test func aRunTakesAMachineThatWaits() throws {
            let (shown, before) = (try self.shown(), try everything())
            let members = try fill(2)
            #expect(members.count == 2)
            #expect(try self.shown() == shown, "a machine that waits is no container")
            let output = try run(["--rm"], "hostname; cat /proc/sys/kernel/hostname /etc/hostname; echo wrong >&2; exit 3")
            #expect(output.code == 3 && output.errors == "wrong\n")
            #expect(Set(output.lines).count == 1 && members.contains(String(output.lines.first ?? "")), "\(output.text)")
            // Another takes its place, and nothing stays of the first.
            try eventually("another machine that waits", within: 120, every: 0.2) { try ready() >= 2 }
            #expect(try ready() == 2)
            #expect(try everything().allSatisfy { !$0.hasPrefix(output.lines.first ?? "-") })
            try empty()
            #expect(try everything() == before)
        }

        @Test func everyFlagThatIsNotTheMachinesWorks() throws {
            let members = try fill(1)
            let output = try run(
                [
                    "--name", "chosen", "--tmpfs", "/x:size=1m", "-e", "A=b c", "-w", "/tmp", "-u", "app", "-h", "other",
                    "--ulimit", "nofile=77",
                ],
                "echo $A; pwd; id -un; hostname; ulimit -n; grep -c ' /x tmpfs' /proc/mounts")
            #expect(output.lines == ["b c", "/tmp", "app", "other", "77", "1"], "\(output)")
            let line = try #require(try shown("{{.ID}} {{.Names}}").first { $0.hasSuffix(" chosen") })
            #expect(members.contains(String(line.prefix(12))), "\(line)")
            // It is a container like any other: it starts again, with what it wrote.
            try lab.good("start", "-a", "chosen")
            #expect(try lab.good("logs", "chosen").lines.count == 12)
            try lab.good("rm", "chosen")
            try empty()
        }

        @Test func whatDoesNotFitGetsAMachineOfItsOwn() throws {
            let members = try fill(1)
            for flags in [["-v", "\(try lab.scratch("pool-bind")):/b"], ["--cpus", "2"], ["--no-template"]] {
                let output = try run(["--rm"] + flags, "hostname")
                #expect(output.code == 0 && !members.contains(output.word), "\(flags): \(output)")
            }
            #expect(try ready() == 1)
            // A name that is taken takes no machine.
            try lab.good("create", "--name", "taken", lab.image, "true")
            let refused = try run(["--name", "taken"], "true")
            #expect(refused.code == 125 && refused.errors.contains("taken"), "\(refused)")
            #expect(try ready() == 1)
            try lab.good("rm", "taken")
            try empty()
        }

        @Test func eachMachineHasOneTenant() throws {
            let members = try fill(2)
            let runs = try (0..<3).map { _ in
                try Program(lab.line(["run", "--rm"] + Self.shape + [lab.image, "sh", "-c", "hostname; sleep 2"]))
            }
            let names = try runs.map { try $0.finish(seconds: 120).word }
            #expect(Set(names).count == 3)
            #expect(names.count { members.contains($0) } == 2)
            try empty()
        }

        /// Forgotten at any moment of its making, nothing of it stays.
        @Test func forgottenWhileItIsMade() throws {
            let before = try everything()
            for round in 0..<40 {
                let making = try Program(lab.line(["pool", "set", "-n", "2"] + Self.shape + [lab.image]))
                try eventually("the begin of a member", within: 30, every: 0.0005) { try everything() != before }
                usleep(UInt32(round * 1000))
                try empty()
                // Made in time, or not.
                _ = try making.finish(seconds: 120)
                #expect(try everything() == before, "round \(round)")
            }
        }

        /// Killed at any step, it is either one that waits, a container, or nothing.
        @Test func killed() throws {
            let before = try everything()
            _ = try fill(1)
            // The monitor, while it waits.
            let id = try #require(try everything().subtracting(before).first)
            let state = try lab.read("\(lab.root)/containers/\(id)/state.json")
            let pid = try #require(state.firstMatch(of: /"pid":(\d+)/).flatMap { Int32($0.1) })
            #expect(kill(pid, SIGKILL) == 0)
            #expect(try ready() == 0)
            #expect(try everything() == before)
            // The verb, when the machine is its own and nothing has begun: the container is gone, or says that it never ran.
            for flags in [["--rm"], ["--name", "never"]] {
                _ = try fill(1)
                let output = try run(flags, "true", environment: ["HULL_FAULT": "pool:answered"])
                #expect(output.code == 137)
                let isGone = flags[0] == "--rm"
                try eventually(isGone ? "the container is gone" : "the container says that it never ran", within: 30) {
                    try isGone ? everything() == before : shown("{{.Names}} {{.State}}").contains("never exited")
                }
            }
            try lab.good("rm", "never")
            try empty()
        }

        @Test func refusals() throws {
            for (words, said) in [
                (["-n", "1001", lab.image], "give -n 0 to 1000"), (["-n", "1", "rootfs:/"], "is a folder"),
                (["-n", "1", "--network", "host", lab.image], "unknown network"),
            ] {
                let output = try lab.hull(["pool", "set"] + words)
                #expect(output.code == 125 && output.errors.contains(said), "\(output)")
            }
            #expect(try lab.hull("pool", "rm", "nothing").code == 1)
            #expect(try lab.good("pool", "ls", "-q").text == "")
        }
    }
}
