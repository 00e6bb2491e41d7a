import LinuxSystem
import Testing

extension Storms {
    /// Many verbs at once.
    @Suite(.serialized, .timeLimit(.minutes(20)))
    struct CrowdTests {
        @Test @Loop func twentyRuns() async throws {
            let storm = try await Storm.make()
            try await Crowd.each(Array(0..<20), atOnce: 20) { number in
                let run = try await storm.hull("run", "--rm", Storm.image, "echo", "\(number)")
                #expect(run.code == 0 && run.output == "\(number)\n" && run.error.isEmpty, "\(run)")
            }
            #expect(try await storm.containers().isEmpty)
            #expect(try await storm.leftAtLast() == [])
            try await storm.remove()
        }

        /// Both tell the truth, whoever reaps.
        @Test @Loop func twoReapers() async throws {
            let storm = try await Storm.make()
            let run = try await storm.hull("run", "-d", "--name", "dead", Storm.image, "sleep", "60", fault: "saved:running")
            #expect(run.code == 137, "\(run)")
            try await Crowd.each(Array(0..<8), atOnce: 8) { _ in
                let status = try await storm.container("dead")?.status ?? "gone"
                #expect(status.hasPrefix("Exited (137)"))
            }
            #expect(try await storm.leftAtLast() == [])
            try await storm.remove()
        }

        /// One wins, the other is told.
        @Test @Loop func twoStarts() async throws {
            let storm = try await Storm.make()
            #expect(try await storm.hull("create", "--name", "one", "--network", "none", Storm.image, "sleep", "60").code == 0)
            async let first = storm.hull("start", "one")
            async let second = storm.hull("start", "one")
            let both = try await [first, second].sorted { $0.code < $1.code }
            #expect(both[0].code == 0, "\(both)")
            // One that came late enough saw it live, which is no error.
            #expect(both[1].code == 0 || both[1].error.contains("is running already"), "\(both)")
            #expect(try await storm.container("one")?.state == "running")
            #expect(try await storm.hull("rm", "--force", "one").code == 0)
            #expect(try await storm.leftAtLast() == [])
            try await storm.remove()
        }
    }
}
