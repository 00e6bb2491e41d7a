import Foundation
import Testing

extension IntegrationTests {
    /// Exit codes and streams.
    @Suite struct Run {
        let lab = Lab.shared

        struct Case: CustomTestStringConvertible, Sendable {
            var words: [String]
            var code: Int32
            var output = ""
            var says = ""
            var testDescription: String { words.joined(separator: " ") }
        }

        static let runs = [
            Case(words: ["true"], code: 0),
            Case(words: ["sh", "-c", "printf 'a\\0b'; printf 'e\\n' >&2; exit 7"], code: 7, output: "a\0b", says: "e\n"),
            Case(words: ["no-such-command"], code: 127, says: "no-such-command"),
            Case(words: ["/etc/passwd"], code: 126, says: "/etc/passwd"),
            Case(words: ["/bin"], code: 126, says: "/bin"),
        ]

        @Test(arguments: runs) func runEndsAsItsCommand(_ it: Case) throws {
            let output = try lab.hull(["run", "--rm", "--network", "none", lab.image] + it.words)
            #expect(output.code == it.code, "\(output.errors)")
            #expect(output.text == it.output)
            #expect(it.code < 125 ? output.errors == it.says : output.errors.contains(it.says), "\(output.errors)")
        }

        @Test func initPassesSignalsOn() throws {
            #expect(try lab.script(["--init"], "kill -9 $$").code == 137)
        }

        static let execs = [
            Case(words: ["true"], code: 0), Case(words: ["false"], code: 1),
            Case(words: ["sh", "-c", "exit 255"], code: 255),
            Case(words: ["sh", "-c", "kill -9 $$"], code: 137), Case(words: ["sh", "-c", "kill -15 $$"], code: 143),
            Case(words: ["sh", "-c", "kill -6 $$"], code: 134),
            Case(words: ["no-such-command"], code: 127, says: "no-such-command"),
            Case(words: ["/no/such/file"], code: 127, says: "/no/such/file"),
            Case(words: ["/etc/passwd"], code: 126, says: "/etc/passwd"),
            Case(words: ["printf", "a\\nb"], code: 0, output: "a\nb"),
        ]

        @Test(arguments: execs) func execEndsAsItsCommand(_ it: Case) throws {
            let output = try lab.hull(["exec", lab.box()] + it.words)
            #expect(output.code == it.code, "\(output.errors)")
            #expect(output.text == it.output)
            #expect(it.says.isEmpty || output.errors.contains(it.says), "\(output.errors)")
        }

        @Test func programOfAnotherArchitecture() throws {
            let header =
                "\\177ELF\\002\\001\\001\\000\\000\\000\\000\\000\\000\\000\\000\\000\\002\\000\\267\\000\\001\\000\\000\\000"
            try lab.good("exec", lab.box(), "sh", "-c", "printf '\(header)' >/arm; head -c 200 /dev/zero >>/arm; chmod +x /arm")
            let output = try lab.hull("exec", lab.box(), "/arm")
            #expect(output.code == 126, "\(output.errors)")
            #expect(output.errors.contains("/arm"))
        }

        @Test func aCommandThatWritesAndEndsAtOnceLosesNothing() throws {
            let box = try lab.box()
            for round in 0..<200 {
                let output = try lab.hull("exec", box, "sh", "-c", "printf o\(round); printf e\(round) >&2; exit \(round)")
                #expect(output.code == Int32(round))
                #expect(output.text == "o\(round)")
                #expect(output.errors == "e\(round)")
            }
            for round in 0..<5 {
                let output = try lab.script([], "printf o\(round); printf e\(round) >&2; exit \(round)")
                #expect(output.code == Int32(round))
                #expect(output.text == "o\(round)")
                #expect(output.errors == "e\(round)")
            }
        }

        /// 64 MiB each way, with HULL_LONG=1 1 GiB.
        @Test func manyBytesBothWays() throws {
            let long = ProcessInfo.processInfo.environment["HULL_LONG"] == "1"
            let file = "\(try lab.scratch("bytes"))/data"
            let box = try lab.box()
            let size = long ? "1G" : "64M"
            let made = try lab.host("sh", "-c", "head -c \(size) /dev/urandom >\(file); sha256sum <\(file)", seconds: 120)
            let hull = try lab.line(["exec", "-i", box]).joined(separator: " ")
            let sent = try lab.host(
                "sh", "-c", "cat \(file) | \(hull) sh -c 'cat >/data; sha256sum </data'", seconds: long ? 900 : 120)
            #expect(sent.text == made.text, "\(sent.errors)")
            let received = try lab.host("sh", "-c", "\(hull) cat /data </dev/null | sha256sum", seconds: long ? 900 : 120)
            #expect(received.text == made.text, "\(received.errors)")
            // Whole, from the first process too, into a file and from a file.
            try lab.good("exec", box, "rm", "/data")
            if !long {
                let run = try lab.line(["run", "--rm", "-i", "--network", "none", lab.image]).joined(separator: " ")
                let whole = try lab.host("sh", "-c", "\(run) cat <\(file) >\(file).2; sha256sum <\(file).2", seconds: 120)
                #expect(whole.text == made.text, "\(whole.errors)")
            }
            try lab.host("rm", "-rf", file, "\(file).2")
        }

        @Test func standardInput() throws {
            let box = try lab.box()
            #expect(try lab.good("exec", "-i", box, "wc", "-c", input: Array("12345".utf8)).word == "5")
            #expect(try lab.good("exec", "-i", box, "wc", "-c").word == "0")
            // Without -i there is nothing to read, whatever we send.
            #expect(try lab.good("exec", box, "wc", "-c", input: Array("12345".utf8)).word == "0")
            let run = try lab.hull(["run", "--rm", "-i", "--network", "none", lab.image, "cat"], input: Array("line\nrest".utf8))
            #expect(run.text == "line\nrest")
        }

        @Test func aSlowReaderStallsNobody() throws {
            let box = try lab.box()
            let slow = try lab.start("exec", box, "sh", "-c", "yes | head -c 8000000")
            try slow.expect("y")
            // Nobody reads `slow` now; control and other streams go on.
            #expect(try lab.good("exec", box, "echo", "quick", seconds: 10).text == "quick\n")
            let output = try slow.finish()
            #expect(output.bytes.count == 8_000_000)
        }

        @Test func aReaderThatGoesAwayEndsTheWriter() throws {
            let box = try lab.box()
            let hull = try lab.line(["exec", box]).joined(separator: " ")
            // The shell's own pipeline, whose status says what became of `hull exec`: SIGPIPE, as without it.
            func piped(_ command: String, into reader: String) throws -> [String] {
                try lab.host("bash", "-c", "\(hull) \(command) | \(reader); echo ${PIPESTATUS[0]}").lines
            }
            #expect(try piped("yes", into: "head -n 1") == ["y", "141"])
            // Gone before it began, and gone while nothing is written.
            #expect(try piped("yes", into: "true") == ["141"])
            #expect(try piped("sh -c 'echo a; sleep 1; echo b; touch /not-reached'", into: "head -n 1") == ["a", "141"])
            #expect(try lab.hull("exec", box, "ls", "/not-reached").code != 0)
            // The other output goes on.
            let apart = try lab.host(
                "sh", "-c", "\(hull) sh -c 'trap \"\" PIPE; sleep 0.5; echo x; sleep 0.5; echo y; echo z >&2' | true")
            #expect(apart.errors.hasSuffix("z\n"))
            #expect(!(try lab.good("top", box).text.contains("yes")))
        }

        @Test func aReaderThatGoesAwayEndsNoContainer() throws {
            try lab.good(
                "run", "-d", "--name", "spring", "--network", "none", lab.image, "sh", "-c",
                "while echo line; do sleep 0.02; done")
            let attach = try lab.line(["attach", "spring"]).joined(separator: " ")
            let piped = try lab.host("bash", "-c", "\(attach) | head -n 2; echo ${PIPESTATUS[0]}")
            #expect(piped.text == "line\nline\n141\n")
            let before = try lab.good("logs", "spring").lines.count
            try lab.host("sleep", "0.5")
            #expect(try lab.good("logs", "spring").lines.count > before)
            #expect(try lab.state("spring")["Status"] as? String == "running")
            try lab.good("rm", "-f", "spring")
        }

        /// One that reads nothing: the log and another reader get everything that fits into what may wait for it.
        @Test func aReaderThatStandsStillHoldsNobodyUpAtOnce() throws {
            try lab.good(
                "run", "-d", "--name", "pool", "--network", "none", lab.image, "sh", "-c",
                "while [ ! -e /go ]; do sleep 0.1; done; yes | head -c 900000; echo END; sleep infinity")
            let standing = try lab.start("attach", "pool")
            let reading = try lab.start("attach", "pool")
            // Both are attached once the monitor has answered this.
            try lab.host("sleep", "1")
            try lab.good("exec", "pool", "touch", "/go")
            try reading.expect("END")
            #expect(reading.bytes.count == 900_004)
            #expect(try lab.good("logs", "pool").bytes.count == 900_004)
            // Who stood still has lost nothing.
            try standing.expect("END")
            #expect(standing.bytes.count == 900_004)
            try lab.good("rm", "-f", "pool")
        }

        @Test func signalsGoToTheCommand() throws {
            let waiting = try lab.start(
                "run", "--rm", "--network", "none", lab.image, "sh", "-c",
                "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.1; done")
            try waiting.expect("up")
            waiting.signal(SIGTERM)
            let output = try waiting.finish()
            #expect(output.code == 9)
            #expect(output.text == "up\ngot\n")
        }

        @Test func theContainerOutlivesItsCLI() throws {
            let cli = try lab.start(
                "run", "--name", "orphan", "--network", "none", lab.image, "sh", "-c", "echo up; sleep infinity")
            try cli.expect("up")
            cli.signal(SIGKILL)
            #expect(try cli.finish().code == 137)
            #expect(try lab.good("exec", "orphan", "echo", "here").text == "here\n")
            #expect(try lab.good("ps", "--filter", "name=orphan", "-q").lines.count == 1)
            try lab.good("rm", "-f", "orphan")
        }

        @Test func removedWithAllThatIsItsOwn() throws {
            let volumes = try lab.good("volume", "ls", "-q").text
            let output = try lab.hull(
                "run", "--rm", "--name", "brief", "--network", "none", "-v", "/data", lab.image, "touch", "/data/x")
            #expect(output.code == 0, "\(output.errors)")
            #expect(try lab.good("volume", "ls", "-q").text == volumes)
            #expect(try !lab.good("ps", "-a", "--format", "{{.Names}}").lines.contains("brief"))
        }

        @Test func twentyAtOnce() throws {
            let all = try (0..<20).map { number in
                try lab.start(
                    "run", "--rm", "--network", "none", "--memory", "64m", lab.image, "sh", "-c", "echo \(number); exit \(number)"
                )
            }
            for (number, program) in all.enumerated() {
                let output = try program.finish(seconds: 240)
                #expect(output.code == Int32(number), "\(output.errors)")
                #expect(output.text == "\(number)\n")
            }
        }
    }
}
