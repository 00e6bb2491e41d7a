import Glibc
import LinuxSystem
import Testing

extension Storms {
    /// SIGKILL from outside, while a container with a share runs and somebody is attached.
    @Suite(.serialized, .timeLimit(.minutes(20)))
    struct KillTests {
        @Test(arguments: ["monitor", "qemu", "virtiofsd"]) @Loop
        func owned(_ role: String) async throws {
            let storm = try await Storm.make()
            try await Self.attached(storm, "victim") { run, id in
                let victim = try #require(try storm.processes(id).first { $0.role == role })
                kill(victim.pid, SIGKILL)
                let end = try await run.value
                #expect(end.code == (role == "monitor" ? 137 : 125), "\(end)")
                let word =
                    role == "monitor"
                    ? "monitor ended" : role == "qemu" ? "the VMM ended (signal 9)" : "virtiofsd ended (signal 9)"
                #expect(end.error.contains(word), "\(end)")
                #expect(try await storm.leftBefore(id) == [])
                let listed = try #require(try await storm.container("victim"))
                #expect(listed.status.hasPrefix("Exited (\(role == "monitor" ? 137 : 125))"), "\(listed)")
                #expect(try storm.leftAfter(id) == [])
            }
            let left = try await storm.leftAtLast()
            #expect(left == [])
            try await storm.remove()
        }

        /// The container runs on, and its exit code is its own.
        @Test @Loop func verb() async throws {
            let storm = try await Storm.make()
            let child = try storm.spawn(["run", "--name", "orphan", "--network", "none", Storm.image, "sleep", "60"]).spawn()
            let id = try await storm.running("orphan")
            child.signal(SIGKILL)
            _ = try await child.wait()
            #expect(try await storm.container("orphan")?.state == "running")
            #expect(try await storm.hull("exec", "orphan", "echo", "alive").output == "alive\n")
            #expect(try await storm.hull("stop", "-t", "0", "orphan").code == 0)
            #expect(try await storm.leftBefore(id) == [])
            #expect(try await storm.container("orphan")?.status.hasPrefix("Exited (137)") == true)
            try await storm.remove()
        }

        /// A guest that answers nothing any more (its VMM is stopped): kill, stop and rm end it all the same.
        @Test(arguments: [["kill"], ["stop", "-t", "1"], ["rm", "--force"]]) @Loop
        func silentGuest(_ verb: [String]) async throws {
            let storm = try await Storm.make()
            try await Self.attached(storm, "silent") { run, id in
                kill(try #require(try storm.processes(id).first { $0.role == "qemu" }).pid, SIGSTOP)
                let ended = try await storm.hull(verb + ["silent"])
                #expect(ended.code == 0, "\(ended)")
                #expect(try await run.value.code == 137)
                #expect(try await storm.leftBefore(id) == [])
            }
            try await storm.remove()
        }

        /// A boot that is called off: by the user's signal, and by `stop`; also of a guest that says nothing.
        @Test(arguments: [(true, false), (false, false), (true, true), (false, true)]) @Loop
        func boot(bySignal: Bool, isSilent: Bool) async throws {
            let storm = try await Storm.make()
            let child = try storm.spawn(["run", "--name", "early", "--network", "none", Storm.image, "sleep", "60"]).spawn()
            let id = try await withDeadline(.seconds(10), awaiting: "QEMU") {
                while true {
                    if let id = try storm.identifier("early"), try storm.processes(id).contains(where: { $0.role == "qemu" }) {
                        return id
                    }
                    try await sleep(for: .milliseconds(10))
                }
            }
            if isSilent { kill(try #require(try storm.processes(id).first { $0.role == "qemu" }).pid, SIGSTOP) }
            if bySignal {
                child.signal(SIGINT)
            } else {
                #expect(try await storm.hull("stop", "early").code == 0)
            }
            #expect(try await withDeadline(.seconds(5), awaiting: "hull run's end") { try await child.wait() } == .code(143))
            #expect(try await storm.leftBefore(id) == [])
            #expect(try await storm.container("early")?.status.hasPrefix("Exited (143)") == true)
            #expect(try storm.leftAfter(id) == [])
            try await storm.remove()
        }

        /// A reader that takes nothing holds its container, and nobody else: `stop` ends both, `exec` goes on meanwhile.
        @Test @Loop func stalledReader() async throws {
            let storm = try await Storm.make()
            let pipe = try makePipe()
            var how = storm.spawn(["run", "--name", "stalled", "--network", "none", Storm.image, "yes"])
            how.descriptors = [(pipe.write.raw, 1)]
            let child = try how.spawn()
            let id = try await storm.running("stalled")
            try await sleep(for: .milliseconds(300))
            #expect(try await storm.hull("exec", "stalled", "echo", "alive").output == "alive\n")
            let stop = try await withDeadline(.seconds(20), awaiting: "hull stop") {
                try await storm.hull("stop", "-t", "1", "stalled")
            }
            #expect(stop.code == 0, "\(stop)")
            _ = try await withDeadline(.seconds(5), awaiting: "hull run's end") { try await child.wait() }
            #expect(try await storm.leftBefore(id) == [])
            withExtendedLifetime(pipe) {}
            try await storm.remove()
        }

        /// A container with a share, and a verb attached to it.
        @Loop private static func attached(
            _ storm: Storm, _ name: String, _ body: @Loop (Task<Storm.Result, any Error>, String) async throws -> Void
        ) async throws {
            let share = "\(storm.folder)/share"
            try makeDirectories(share)
            let run = Task { @Loop in
                try await storm.hull(
                    "run", "--name", name, "--network", "none", "-v", "\(share):/share", Storm.image, "sleep", "60")
            }
            try await body(run, try await storm.running(name))
        }
    }
}
