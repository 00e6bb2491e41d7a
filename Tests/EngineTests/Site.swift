import CLinux
import Glibc
import LinuxSystem
import Testing

/// What a command of a test left.
struct Call: Sendable {
    var line: String
    /// Its exit code, or 128 and the signal that ended it.
    var code: Int32
    var bytes: [UInt8]
    var errors: String
    /// Standard output without space around it.
    var text: String {
        let text = String(decoding: bytes, as: UTF8.self)
        return String(text.trimmingPrefix(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }
    var lines: [String] { text.split(separator: "\n").map(String.init) }
}

/// A part of the host that belongs to one engine: process, mount and network namespaces, with a `/run` and a `/var/lib` of
/// their own, so that an engine finds its usual paths and touches nobody's. Its process 1 ends with this process, and takes
/// every process, mount, link and rule of the engine along; only cgroups and the folder are left for `remove()`.
@Loop
final class Site {
    let folder: String
    /// The cgroup under which the engine's containers live, where the engine can be told.
    let cgroup: String
    private let first: ChildProcess

    static func make(_ name: String) async throws -> Site {
        let folder = "/tmp/hull-engines-\(getpid())-\(name)"
        try makeDirectories("\(folder)/lib", mode: 0o755)
        // The folder's parts are seen inside as `/run` and `/var/lib`; both are gone from other people's view.
        var how = Spawn(
            "/bin/sh",
            [
                "-euc",
                """
                mount --make-rprivate /
                mount -t proc proc /proc
                mount -t tmpfs -o mode=755 tmpfs /run
                mount --bind "$1/lib" /var/lib
                ip link set lo up
                echo ready
                exec docker-init -s -- sleep infinity
                """, "site", folder,
            ], environment: Self.environment)
        how.namespaces = Int32(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET)
        how.deathSignal = SIGKILL
        how.newSession = true
        let pipe = try makePipe()
        let log = SharedDescriptor(try openFile("\(folder)/site.log", O_WRONLY | O_CREAT))
        how.descriptors = [(try nothing(), 0), (pipe.write, 1), (log, 2)]
        try setNonBlocking(pipe.read.raw)
        let first = try how.spawn()
        let word = try await withDeadline(.seconds(10), awaiting: "the engines' namespaces") { try await readSome(pipe.read.raw) }
        guard String(decoding: word, as: UTF8.self).hasPrefix("ready") else {
            throw Mismatch(line: "make namespaces for \(name)", wanted: "ready", got: try readText("\(folder)/site.log"))
        }
        return Site(folder: folder, cgroup: "hull-engines-\(getpid())-\(name)", first: first)
    }

    private init(folder: String, cgroup: String, first: ChildProcess) {
        self.folder = folder
        self.cgroup = cgroup
        self.first = first
    }

    nonisolated static let environment = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TMPDIR=/var/tmp",
    ]

    private static func nothing() throws -> SharedDescriptor { SharedDescriptor(try openFile("/dev/null", O_RDWR)) }

    private func spawn(_ words: [String], _ environment: [String]) -> Spawn {
        Spawn(
            "/usr/bin/nsenter",
            ["--target", "\(first.pid)", "--pid", "--mount", "--net", "--wdns=/", "--"] + words,
            environment: Self.environment + environment)
    }

    /// Runs a program inside to its end; one that is late is killed and ends with 137.
    func run(_ words: [String], environment: [String] = [], input: [UInt8] = [], seconds: Int = 60) async throws -> Call {
        let how = spawn(["timeout", "--foreground", "-s", "KILL", "\(seconds)"] + words, environment)
        let line = words.joined(separator: " ")
        let output = try await withDeadline(.seconds(seconds + 10), awaiting: line) { try await how.run(input: input) }
        return Call(line: line, code: output.status.shellCode, bytes: output.standardOutput, errors: output.complaint)
    }

    /// Starts a program that stays: a server, whose words go to a file. It ends with the site.
    func serve(_ words: [String], environment: [String] = [], log: String) throws -> ChildProcess {
        var how = spawn(words, environment)
        let file = SharedDescriptor(try openFile("\(folder)/\(log)", O_WRONLY | O_CREAT | O_APPEND))
        how.descriptors = [(try Self.nothing(), 0), (file, 1), (file, 2)]
        how.newSession = true
        how.deathSignal = SIGKILL
        return try how.spawn()
    }

    func write(_ text: String, to name: String) throws -> String {
        try writeFile("\(folder)/\(name)", Array(text.utf8), flags: O_WRONLY | O_CREAT | O_TRUNC)
        return "\(folder)/\(name)"
    }

    /// The last lines of a server's words, for a failure's report.
    func tail(_ log: String) -> String {
        // No log, nothing to report.
        guard let text = try? readText("\(folder)/\(log)") else { return "" }
        return String(text.suffix(1500))
    }

    /// Ends everything inside and removes what namespaces do not: cgroups and the folder.
    func remove() async throws {
        first.signal(SIGKILL)
        _ = try await first.wait()
        // Keepers of templates were killed with all else, and no verb comes after them. (Where there is no such folder, there was none.)
        let keepers = ((try? listDirectory("\(folder)/lib/hull/cache/awake")) ?? []).filter { $0.hasPrefix(".") }.map {
            "hull/keeper-\($0.dropFirst())"
        }
        // Podman and containerd cannot be told where; what is in use refuses to go.
        for name in [cgroup, "libpod_parent", "docker", "default"] + keepers {
            for root in try listDirectory("/sys/fs/cgroup") { removeGroups("/sys/fs/cgroup/\(root)/\(name)") }
            removeGroups("/sys/fs/cgroup/\(name)")
        }
        // The kernel lets go of the last mounts a moment after the last process.
        for _ in 0..<50 {
            do { return try removeTree(folder) } catch { try await sleep(for: .milliseconds(100)) }
        }
        try removeTree(folder)
    }

    private func removeGroups(_ path: String) {
        // A controller where the engine made nothing.
        guard let names = try? listDirectory(path) else { return }
        for name in names { removeGroups("\(path)/\(name)") }
        rmdir(path)
    }
}
