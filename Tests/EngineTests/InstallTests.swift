import LinuxSystem
import Testing

/// `hull install` on copies of this host's files, and the real engines reading what it left.
@Suite(.serialized) struct InstallTests {
    private static let hull = Bench.program.replacing("/hull-runtime", with: "/hull")

    @Loop
    private func on(_ name: String, _ body: @Loop (Site) async throws -> Void) async throws {
        let site = try await Site.make(name)
        do { try await body(site) } catch {
            Issue.record("\(error)\n\(site.tail("engine.log"))")
        }
        try await site.remove()
    }

    @Loop
    private func must(_ site: Site, _ line: String, has part: String = "") async throws {
        let call = try await site.run(
            ["sh", "-euc", line], environment: line.contains("docker") ? ["DOCKER_CONFIG=/run/client"] : [])
        if call.code != 0 || !call.text.contains(part) {
            throw Mismatch(line: line, wanted: "success and “\(part)”", got: "\(call.code) “\(call.text)” “\(call.errors)”")
        }
    }

    @Test(.enabled(if: Bench.canRun(.docker))) func docker() async throws {
        try await on("install-docker") { site in
            let root = "\(site.folder)/host"
            try await must(site, "mkdir -p \(root)/etc/docker; echo '{\"debug\": false}' >\(root)/etc/docker/daemon.json")
            _ = try site.serve(
                [
                    "dockerd", "--config-file", "\(root)/etc/docker/daemon.json", "-H", "unix:///run/docker.sock", "--bridge",
                    "none",
                    "--iptables=false",
                ], log: "engine.log")
            try await must(
                site, "for try in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.1; done; docker info")
            try await must(site, "\(Self.hull) install docker --destdir \(root)", has: "systemctl reload docker")
            try await must(site, "kill -HUP $(cat /run/docker.pid)")
            try await must(
                site,
                "for try in $(seq 100); do docker info -f '{{json .Runtimes}}' | grep hull && exit; sleep 0.1; done; exit 1",
                has: Bench.program)
            try await must(site, "docker load -q -i \(Bench.archive)")
            try await must(site, "docker run --rm --runtime=hull --network none \(Bench.image) echo works", has: "works")
            try await must(site, "\(Self.hull) uninstall docker --destdir \(root)", has: "systemctl restart docker")
            try await must(
                site,
                "grep debug \(root)/etc/docker/daemon.json; ! grep -q hull \(root)/etc/docker/daemon.json"
            )
        }
    }

    @Test(.enabled(if: Bench.canRun(.podman))) func podman() async throws {
        try await on("install-podman") { site in
            let root = "\(site.folder)/host"
            try await must(
                site,
                "mkdir -p \(root)/etc; cp -a /etc/containers \(root)/etc; mount --bind \(root)/etc/containers /etc/containers")
            let podman = "podman --root /var/lib/podman --runroot /run/podman --cgroup-manager cgroupfs"
            let limits = "--ulimit nofile=20000:20000 --ulimit nproc=32768:32768 --log-driver k8s-file"
            try await must(site, "! \(podman) --runtime hull info")
            try await must(site, "\(Self.hull) install podman --destdir \(root)", has: "90-hull.conf: written")
            try await must(site, "\(podman) --runtime hull info -f '{{.Host.OCIRuntime.Path}}'", has: Bench.program)
            try await must(site, "\(podman) load -q -i \(Bench.archive)")
            try await must(
                site, "\(podman) --runtime hull run --rm \(limits) --network none \(Bench.image) echo works", has: "works")
            // In words of the runtime's, because its name is in the list of those that answer in JSON.
            try await must(
                site, "! \(podman) --runtime hull run --rm \(limits) --network none \(Bench.image) nothing 2>&1", has: "not found"
            )
            try await must(site, "\(Self.hull) uninstall podman --destdir \(root)", has: "removed")
            try await must(site, "! \(podman) --runtime hull info")
        }
    }

    @Test(.enabled(if: Bench.canRun(.containerd))) func containerd() async throws {
        try await on("install-containerd") { site in
            let root = "\(site.folder)/host"
            try await must(
                site, "mkdir -p \(root)/etc/containerd; cp /etc/containerd/config.toml \(root)/etc/containerd/config.toml")
            try await must(site, "\(Self.hull) install containerd --destdir \(root)")
            try await must(
                site, "containerd --config \(root)/etc/containerd/config.toml config dump",
                has: "BinaryName = \"\(Bench.program)\"")
            try await must(site, "\(Self.hull) uninstall containerd --destdir \(root)")
            try await must(site, "cmp /etc/containerd/config.toml \(root)/etc/containerd/config.toml")
        }
    }
}
