import Glibc
import LinuxSystem

/// containerd alone, with its bare client.
final class Containerd: Engine {
    let kind = Row.Kind.containerd
    let runtime: Runtime
    let site: Site
    let client = ["/usr/bin/ctr", "--address", "/run/containerd/containerd.sock"]
    let environment: [String] = []

    init(_ runtime: Runtime) async throws {
        self.runtime = runtime
        site = try await Site.make("containerd-\(runtime.name)")
        do { try await start() } catch {
            try await site.remove()
            throw error
        }
    }

    private func start() async throws {
        _ = try site.serve(
            ["containerd", "--root", "/var/lib/containerd", "--state", "/run/containerd"], log: "engine.log")
        for _ in 0..<100 {
            try await sleep(for: .milliseconds(100))
            if try await ask("version") != nil { return try await must(client + ["images", "import", Bench.archive]) }
        }
        throw Mismatch(line: "containerd", wanted: "an answer within ten seconds", got: words())
    }

    /// The bare client names the runtime in each command, and the image with its tag.
    nonisolated func arguments(_ words: [String]) -> [String] {
        let words = words.map { $0 == "@" ? "\(Bench.image):latest" : $0 }
        guard words.first == "run" else { return words }
        return ["run", "--runtime", "io.containerd.runc.v2", "--runc-binary", runtime.path] + words.dropFirst()
    }

    func clear(_ used: Set<String>) async throws {
        for name in try await ask("tasks ls -q") ?? [] { _ = try await ask("tasks rm -f \(name)") }
        for name in try await ask("containers ls -q") ?? [] { try await must(client + ["containers", "rm", name]) }
    }
}

/// containerd as a kubelet uses it: through the Container Runtime Interface, with networks by CNI's plugins.
final class Kubernetes: Engine {
    let kind = Row.Kind.cri
    let runtime: Runtime
    let site: Site
    // Debian's Python, which has Debian's gRPC.
    let client = ["/usr/bin/python3", "\(Bench.repository)/Tests/Programs/cri.py", "/run/containerd/containerd.sock"]
    let environment: [String]

    init(_ runtime: Runtime) async throws {
        self.runtime = runtime
        site = try await Site.make("cri-\(runtime.name)")
        environment = ["CGROUP_PARENT=/\(site.cgroup)"]
        do { try await start() } catch {
            try await site.remove()
            throw error
        }
    }

    private func start() async throws {
        try makeDirectories("\(site.folder)/cni", mode: 0o755)
        _ = try site.write(
            """
            {"cniVersion": "0.4.0", "name": "pods", "plugins": [
              {"type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": 1400,
               "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.130.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
              {"type": "loopback"}]}

            """, to: "cni/10-pods.conflist")
        let config = try site.write(
            """
            version = 2
            root = "/var/lib/containerd"
            state = "/run/containerd"
            [plugins."io.containerd.grpc.v1.cri"]
            sandbox_image = "localhost/pause:latest"
            disable_apparmor = true
            restrict_oom_score_adj = true
            disable_tcp_service = true
            stream_server_port = "0"
            [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "/usr/lib/cni"
            conf_dir = "\(site.folder)/cni"
            [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "overlayfs"
            default_runtime_name = "tested"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
            runtime_type = "io.containerd.runc.v2"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
            BinaryName = "\(runtime.path)"

            """, to: "containerd.toml")
        _ = try site.serve(["containerd", "--config", config], log: "engine.log")
        let ctr = ["ctr", "--namespace", "k8s.io", "images", "import"]
        for _ in 0..<100 {
            try await sleep(for: .milliseconds(100))
            guard try await site.run(["ctr", "version"]).code == 0 else { continue }
            try await must(ctr + [Bench.archive])
            return try await must(ctr + [Bench.pause])
        }
        throw Mismatch(line: "containerd", wanted: "an answer within ten seconds", got: words())
    }

    func clear(_ used: Set<String>) async throws { try await must(client + ["clear"]) }
}
