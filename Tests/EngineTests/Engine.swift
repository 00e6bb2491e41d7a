import Glibc
import LinuxSystem

/// A runtime under the engines: the control or the one that is measured.
struct Runtime: Sendable {
    var name: String
    var path: String
    /// Its containers are machines.
    var isMachine: Bool { name == "hull" }

    static let runc = Runtime(name: "runc", path: "/usr/sbin/runc")
    static let crun = Runtime(name: "crun", path: "/usr/bin/crun")
    static let hull = Runtime(name: "hull", path: Bench.program)
}

/// A real engine, running in a site of its own with one runtime as its default.
@Loop
protocol Engine: AnyObject {
    nonisolated var kind: Row.Kind { get }
    nonisolated var runtime: Runtime { get }
    nonisolated var site: Site { get }
    /// The client's argv without the verb, and what it needs in its environment.
    nonisolated var client: [String] { get }
    nonisolated var environment: [String] { get }
    /// The arguments for a row's words: `@` is the test image.
    nonisolated func arguments(_ words: [String]) -> [String]
    /// Removes what a row left; `used` are the first two words of each of its commands.
    func clear(_ used: Set<String>) async throws
    /// The tail of what the engine logged.
    func words() -> String
}

extension Engine {
    nonisolated func arguments(_ words: [String]) -> [String] { words.map { $0 == "@" ? Bench.image : $0 } }

    /// Runs the client; nil when it failed.
    func ask(_ line: String, seconds: Int = 60) async throws -> [String]? {
        let call = try await site.run(client + line.words, environment: environment, seconds: seconds)
        return call.code == 0 ? call.lines : nil
    }

    func must(_ words: [String], seconds: Int = 60) async throws {
        let call = try await site.run(words, environment: environment, seconds: seconds)
        if call.code != 0 {
            throw Mismatch(line: call.line, wanted: "success", got: "\(call.code) \(call.errors) \(self.words())")
        }
    }

    func words() -> String { site.tail("engine.log") }
}

/// dockerd, which starts containerd itself.
final class Docker: Engine {
    let kind = Row.Kind.docker
    let runtime: Runtime
    let site: Site
    // Of the distribution, whatever else may be earlier in PATH.
    let client = ["/usr/bin/docker"]
    let environment = ["DOCKER_CONFIG=/run/client"]

    static let bridge = "10.111.0.1"

    init(_ runtime: Runtime) async throws {
        self.runtime = runtime
        site = try await Site.make("docker-\(runtime.name)")
        do { try await start() } catch {
            try await site.remove()
            throw error
        }
    }

    private func start() async throws {
        let runtimes = [Runtime.crun, .hull].map { "\"\($0.name)\": {\"path\": \"\($0.path)\"}" }.joined(separator: ", ")
        let config = try site.write(
            """
            {"runtimes": {\(runtimes)}, "default-runtime": "\(runtime.name)", "cgroup-parent": "/\(site.cgroup)",
             "hosts": ["unix:///run/docker.sock"], "bip": "\(Self.bridge)/24", "dns": ["\(Self.bridge)"], "experimental": true,
             "default-address-pools": [{"base": "10.112.0.0/16", "size": 24}], "storage-driver": "overlay2",
             "features": {"buildkit": false}}

            """, to: "daemon.json")
        _ = try site.serve(["dockerd", "--config-file", config], log: "engine.log")
        for _ in 0..<300 {
            try await sleep(for: .milliseconds(100))
            if try await ask("version --format {{.Server.Version}}") != nil {
                return try await must(client + ["load", "-q", "-i", Bench.archive])
            }
        }
        throw Mismatch(line: "dockerd", wanted: "an answer within half a minute", got: words())
    }

    func clear(_ used: Set<String>) async throws {
        if let left = try await ask("ps -aq --no-trunc"), !left.isEmpty {
            try await must(client + ["rm", "-f", "-v"] + left)
        }
        if used.contains("network") { try await must(client + ["network", "prune", "-f"]) }
        if used.contains("volume") { try await must(client + ["volume", "prune", "-f"]) }
    }
}

/// Podman, which has no daemon: every command is a process of its own.
final class Podman: Engine {
    let kind = Row.Kind.podman
    let runtime: Runtime
    let site: Site
    let client: [String]
    let environment: [String]

    init(_ runtime: Runtime) async throws {
        self.runtime = runtime
        site = try await Site.make("podman-\(runtime.name)")
        let folder = site.folder
        client = [
            "/usr/bin/podman", "--root", "/var/lib/podman", "--runroot", "/run/podman", "--cgroup-manager", "cgroupfs",
            "--network-config-dir", "/var/lib/podman-networks",
        ]
        environment = [
            "CONTAINERS_CONF=\(folder)/containers.conf", "CONTAINERS_STORAGE_CONF=\(folder)/storage.conf",
            "CONTAINERS_REGISTRIES_CONF=\(folder)/registries.conf", "XDG_RUNTIME_DIR=/run",
        ]
        do { try await start() } catch {
            try await site.remove()
            throw error
        }
    }

    private func start() async throws {
        _ = try site.write(
            """
            [containers]
            log_driver = "k8s-file"
            default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
            dns_servers = []
            [engine]
            cgroup_manager = "cgroupfs"
            events_logger = "file"
            runtime = "\(runtime.name)"
            runtime_supports_json = ["runc", "crun", "hull"]
            [engine.runtimes]
            \([Runtime.runc, .crun, .hull].map { "\($0.name) = [\"\($0.path)\"]" }.joined(separator: "\n"))
            [network]
            network_backend = "netavark"

            """, to: "containers.conf")
        _ = try site.write(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/podman\"\ngraphroot = \"/var/lib/podman\"\n", to: "storage.conf")
        _ = try site.write("unqualified-search-registries = []\n", to: "registries.conf")
        try await must(client + ["load", "-q", "-i", Bench.archive])
    }

    func clear(_ used: Set<String>) async throws {
        if used.contains("pod") || used.contains("play") { try await must(client + ["pod", "rm", "-fa", "-t", "0"]) }
        try await must(client + ["rm", "-fa", "-t", "0", "-v"])
        if used.contains("network") { try await must(client + ["network", "prune", "-f"]) }
        if used.contains("volume") { try await must(client + ["volume", "prune", "-f"]) }
    }
}
