import CLinux
import Glibc
import Testing

@testable import LinuxSystem

@Suite struct SpawnTests {
    init() { Loop.runInBackground() }

    @Loop @Test func plain() async throws {
        var command = Spawn("/usr/bin/env", environment: ["A=1", "B=two words"])
        let output = try await command.run()
        #expect(output.status == .code(0) && output.lines == ["A=1", "B=two words"])
        command = Spawn("/bin/sh", ["-c", "echo \"$0\" \"$1\"; pwd; echo oops >&2; exit 3", "zero", "o n e"])
        command.directory = "/usr"
        let second = try await command.run()
        #expect(second.status == .code(3) && second.lines == ["zero o n e", "/usr"] && second.complaint == "oops")
    }

    /// Each of ours goes to each of their numbers, also where those are ours: every cycle is resolved.
    @Loop @Test func descriptorsInEveryPermutation() async throws {
        let scratch = try Scratch()
        let paths = try (0..<3).map { try scratch.file("file\($0)") }
        let files = try paths.map { SharedDescriptor(try openFile($0, O_RDONLY)) }
        let permutations = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
        for targets in [files.map(\.raw), [3, 4, 5], [3, 100, 50]] as [[Int32]] {
            for permutation in permutations {
                var command = Spawn("/usr/bin/readlink", targets.map { "/proc/self/fd/\($0)" })
                command.descriptors = permutation.indices.map { (files[permutation[$0]].raw, targets[$0]) }
                #expect(try await command.run().lines == permutation.map { paths[$0] })
            }
        }
        // One of ours to two of theirs.
        var twice = Spawn("/usr/bin/readlink", ["/proc/self/fd/3", "/proc/self/fd/9"])
        twice.descriptors = [(files[0].raw, 9), (files[0].raw, 3)]
        #expect(try await twice.run().lines == [paths[0], paths[0]])
    }

    @Loop @Test func allOthersAreClosed() async throws {
        let scratch = try Scratch()
        let inherited = open(try scratch.file("f"), O_RDONLY)  // without close-on-exec, on purpose
        defer { close(inherited) }
        var command = Spawn("/bin/ls", ["/proc/self/fd"])
        command.descriptors = [(inherited, 7)]
        #expect(try await command.run().lines == ["0", "1", "2", "3", "7"])  // 3 is the listing's own
        // Without any, 0 to 2 are closed too.
        let pipe = try makePipe(nonBlocking: true)
        var bare = Spawn("/bin/sh", ["-c", "ls /proc/self/fd >&5"])
        bare.descriptors = [(pipe.write.raw, 5)]
        _ = try await bare.spawn().wait()
        #expect(String(decoding: try await readSome(pipe.read.raw), as: UTF8.self).split(separator: "\n") == ["0", "1", "5"])
    }

    @Loop @Test func identityLimitsAndSession() async throws {
        var command = Spawn("/usr/bin/id", ["-u"])
        command.identity = (uid: 4321, gid: 8765, groups: [5, 6])
        #expect(try await command.run().lines == ["4321"])
        command.arguments[1] = "-G"
        #expect(try await command.run().lines == ["8765 5 6"])

        command = Spawn("/bin/sh", ["-c", "ulimit -Sn; ulimit -Hn; ulimit -c"])
        command.limits = [(Int32(RLIMIT_NOFILE.rawValue), 100, 200), (Int32(RLIMIT_CORE.rawValue), 0, 0)]
        #expect(try await command.run().lines == ["100", "200", "0"])

        command = Spawn("/bin/cat", ["/proc/self/stat", "/proc/self/oom_score_adj"])
        command.newSession = true
        command.oomScore = 500
        let lines = try await command.run().lines
        let fields = lines[0].split(separator: " ")
        #expect(fields[0] == fields[5], "it leads a session of its own")
        #expect(lines[1] == "500")
    }

    @Loop func status(_ command: Spawn) async throws -> [String: String] {
        var found: [String: String] = [:]
        for line in try await command.run().lines {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 {
                found[String(parts[0])] = parts[1].split(whereSeparator: \.isWhitespace).joined(separator: " ")
            }
        }
        return found
    }

    @Loop @Test func capabilities() async throws {
        var command = Spawn("/bin/cat", ["/proc/self/status"])
        command.capabilities = 0
        command.noNewPrivileges = true
        command.identity = (uid: 1000, gid: 1000, groups: [])
        var lines = try await status(command)
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] { #expect(lines[set] == "0000000000000000", "\(set)") }
        #expect(lines["NoNewPrivs"] == "1" && lines["Uid"] == "1000 1000 1000 1000" && lines["Groups"] == "")
        // Root that keeps one of them.
        command = Spawn("/bin/cat", ["/proc/self/status"])
        command.capabilities = 1 << 5  // CAP_KILL
        lines = try await status(command)
        for set in ["CapPrm", "CapEff", "CapBnd"] { #expect(lines[set] == "0000000000000020", "\(set)") }
        #expect(lines["NoNewPrivs"] == "0")
    }

    /// What the caller blocks or ignores is not the child's to suffer.
    @Loop @Test func signalsAreAsAtBirth() async throws {
        let lines = try await status(Spawn("/bin/cat", ["/proc/self/status"]))
        #expect(lines["SigBlk"] == "0000000000000000")
        // 32 and 33 are the C library's own, which sigaction(3) does not touch.
        let ignored = try #require(UInt64(lines["SigIgn"] ?? "", radix: 16))
        #expect(ignored & ~0x1_8000_0000 == 0)
    }

    @Loop @Test func namespaces() async throws {
        var command = Spawn("/bin/sh", ["-c", "echo $$; readlink /proc/self/ns/uts"])
        command.namespaces = CLONE_NEWPID | CLONE_NEWUTS
        let output = try await command.run()
        #expect(output.lines.first == "1")

        let mine = try await Spawn("/usr/bin/readlink", ["/proc/self/ns/net"]).run().lines
        var other = Spawn("/usr/bin/readlink", ["/proc/self/ns/net"])
        other.namespaces = CLONE_NEWNET
        let theirs = try await other.run().lines
        #expect(mine.count == 1 && theirs.count == 1 && mine != theirs)

        // One to join is another's.
        var holder = Spawn("/bin/sleep", ["60"])
        holder.namespaces = CLONE_NEWNET | CLONE_NEWNS
        let held = try holder.spawn()
        var joining = Spawn("/usr/bin/readlink", ["/proc/self/ns/net", "/proc/self/ns/mnt"])
        joining.networkNamespace = SharedDescriptor(try openFile("/proc/\(held.pid)/ns/net", O_RDONLY))
        joining.mountNamespace = SharedDescriptor(try openFile("/proc/\(held.pid)/ns/mnt", O_RDONLY))
        let joined = try await joining.run().lines
        let expected = try await Spawn(
            "/usr/bin/readlink", ["/proc/\(held.pid)/ns/net", "/proc/\(held.pid)/ns/mnt"]
        ).run().lines
        #expect(joined == expected)
        held.signal(SIGKILL)
        #expect(try await held.wait() == .signal(SIGKILL))
    }

    @Loop @Test func rootIsAnother() async throws {
        let scratch = try Scratch()
        try DetachedMount(of: "/usr", recursive: false).attach(at: scratch.path)
        defer { #expect(throws: Never.self) { try unmountFilesystem(scratch.path) } }
        var command = Spawn("/bin/ls", ["-a", "/"])
        command.namespaces = CLONE_NEWNS
        command.root = scratch.path
        let seen = try await command.run().lines
        #expect(seen == (try await Spawn("/bin/ls", ["-a", "/usr"]).run().lines))
        #expect(seen.contains("bin") && !seen.contains("proc"))
        command.directory = "/lib"
        command.file = "/bin/pwd"
        command.arguments = ["pwd"]
        #expect(try await command.run().lines == ["/lib"])
    }

    @Loop @Test func cgroup() async throws {
        let group = Cgroup("hull-test-\(getpid())")
        guard group.isSupported else {
            print("skipped: no cgroup hierarchy is mounted at /sys/fs/cgroup")
            return
        }
        try group.make()
        try group.make()
        try group.limit(memory: 64 << 20, cpus: 0.5, processes: 10)
        // What is left in it goes with it.
        let child = try Spawn("/bin/sleep", ["60"]).spawn()
        try child.join(try group.entrances())
        #expect(try readText("/proc/\(child.pid)/cgroup").contains("/\(group.path)\n"))
        let waiting = Task { @Loop in try await child.wait() }
        child.signal(SIGKILL)
        _ = try await waiting.value
        try group.remove()
        #expect(!group.isThere)
        try group.remove()
    }

    @Loop @Test func failuresNameTheirStep() throws {
        func failure(_ change: (inout Spawn) -> Void) -> String {
            var command = Spawn("/bin/true")
            change(&command)
            do {
                let child = try command.spawn()
                child.signal(SIGKILL)
                return "started"
            } catch {
                return error.sentence
            }
        }
        #expect(failure { $0.file = "/no/such" } == "start /no/such (execute): No such file or directory")
        #expect(failure { $0.file = "/etc/passwd" } == "start /etc/passwd (execute): Permission denied")
        #expect(failure { $0.directory = "/no" } == "start /bin/true (enter its directory): No such file or directory")
        #expect(
            failure {
                $0.root = "/no"
                $0.namespaces = CLONE_NEWNS
            } == "start /bin/true (enter its root): No such file or directory")
        #expect(
            failure { $0.descriptors = [(Int32(999_999), 0)] }
                == "start /bin/true (arrange its descriptors): Bad file descriptor")
        #expect(
            failure { $0.limits = [(Int32(RLIMIT_NOFILE.rawValue), 200, 100)] }
                == "start /bin/true (set its limits): Invalid argument")
        let wrong = SharedDescriptor(try! openFile("/dev/null", O_RDONLY))
        #expect(failure { $0.networkNamespace = wrong } == "start /bin/true (join a namespace): Invalid argument")
        #expect(failure { $0.namespaces = CLONE_NEWUSER | CLONE_FS } == "start /bin/true (make a process): Invalid argument")
    }

    @Loop @Test func childrenEnd() async throws {
        let child = try Spawn("/bin/sleep", ["60"]).spawn()
        #expect(!child.hasEnded)
        let identity = try #require(ProcessIdentity(pid: child.pid))
        #expect(identity.isAlive)
        child.signal(SIGTERM)
        while !child.hasEnded { try await sleep(for: .milliseconds(5)) }
        #expect(try await child.wait() == .signal(SIGTERM))
        child.signal(SIGTERM)  // gone: no error
        #expect(!identity.isAlive && !identity.signal(SIGTERM))
        #expect(ExitStatus.signal(15).shellCode == 143 && ExitStatus.code(3).shellCode == 3)
        await #expect(throws: SystemError.self) { try await child.wait() }
        #expect(ProcessIdentity(pid: getpid())?.isAlive == true)
        var other = try #require(ProcessIdentity(pid: getpid()))
        other.startTime += 1
        #expect(!other.isAlive && !other.signal(0))
    }

    /// It has ended and nobody has asked how: its number is still there, and it is not alive.
    @Loop @Test func whatEndedIsNotAlive() async throws {
        let child = try Spawn("/bin/sleep", ["60"]).spawn()
        let identity = try #require(ProcessIdentity(pid: child.pid))
        #expect(identity.isAlive)
        kill(child.pid, SIGKILL)
        try await withDeadline(.seconds(10), awaiting: "the child's end") {
            while identity.isAlive { try await sleep(for: .milliseconds(1)) }
        }
        #expect(ProcessIdentity(pid: child.pid) == identity, "nobody has reaped it")
        #expect(try await child.wait() == .signal(SIGKILL))
    }

    @Loop @Test func muchEachWay() async throws {
        var input = [UInt8](repeating: 0, count: 10 << 20)
        for index in input.indices { input[index] = UInt8(truncatingIfNeeded: index &* 2_654_435_761 >> 13) }
        let output = try await Spawn("/bin/cat").run(input: input)
        #expect(output.status.isSuccess && output.standardOutput == input)
        let both = try await Spawn("/bin/sh", ["-c", "tee /dev/stderr"]).run(input: input, limit: 1 << 20)
        #expect(both.standardOutput == Array(input[..<(1 << 20)]) && both.standardError == both.standardOutput)
        // One that does not read.
        #expect(try await Spawn("/bin/true").run(input: input).status.isSuccess)
        #expect(try await Spawn("/bin/false").run().status == .code(1))
    }

    @Loop @Test func cancellingARunKillsAndReaps() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/pid"
        let task = Task { @Loop in
            try await Spawn("/bin/sh", ["-c", "echo $$ > \(path).new; mv \(path).new \(path); exec sleep 60"]).run()
        }
        while !exists(path) { try await sleep(for: .milliseconds(5)) }
        let pid = try #require(Int32(try readText(path).split(separator: "\n")[0]))
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(kill(pid, 0) == -1 && errno == ESRCH, "not even a zombie")
    }
}
