import Glibc
import LinuxSystem
import Testing

/// Programs that people run, under a real dockerd whose runtime is hull-runtime: `make test-workloads`.
@Suite(.serialized, .enabled(if: Workloads.areAsked, "part of make test-workloads")) struct EngineWorkloads {
    /// A dockerd with these images, in a site of its own.
    @Loop
    private func on(_ images: [String], _ body: @Loop (Stage) async throws -> Void) async throws {
        try await on(images, under: try await Docker(.hull), body)
    }

    @Loop
    private func on(_ images: [String], under engine: any Engine, _ body: @Loop (Stage) async throws -> Void) async throws {
        do {
            let stage = try Stage(engine, number: 0)
            let folder = Bench.archive.replacing("/engines.docker.tar", with: "")
            for image in images {
                try await stage.host(
                    "skopeo --insecure-policy copy -q oci-archive:\(folder)/\(image).tar docker-archive:\(stage.scratch)/\(image).tar:localhost/\(image):latest"
                )
                try await stage.ok("load -q -i \(stage.scratch)/\(image).tar", seconds: 300)
            }
            try await body(stage)
            try await stage.clear()
        } catch { Issue.record("\(error)\n\(engine.words())") }
        try await engine.site.remove()
    }

    @Test func tenOfACompose() async throws {
        try await on([]) { s in
            let servers = (1...9).map { number in
                "  s\(number): {image: \(Bench.image), mem_limit: 64m, command: [sh, -c, \"mkdir /w; echo \(number) >/w/index.html; httpd -f -h /w\"]}\n"
            }
            _ = try s.file(
                "docker-compose.yml",
                "version: '2.4'\nservices:\n  client: {image: \(Bench.image), mem_limit: 64m, command: [sleep, '100000']}\n\(servers.joined())"
            )
            let compose = "cd $S; export DOCKER_HOST=unix:///run/docker.sock COMPOSE_HTTP_TIMEOUT=300; docker-compose -p ten"
            try await s.shell("\(compose) up -d 2>&1", seconds: 400)
            try await s.shell("\(compose) ps -q | wc -l", "10")
            let ask = "for n in 1 2 3 4 5 6 7 8 9; do until wget -qO- http://s$n/; do sleep 0.5; done; done | tr '\\n' ' '"
            try await s.shell(
                "\(compose) exec -T client sh -c \"\(ask.replacing("$", with: "\\$"))\"", "1 2 3 4 5 6 7 8 9", seconds: 120)
            try await s.shell("\(compose) down -t 0 2>&1", seconds: 200)
            try await s.ok("ps -aq", "")
        }
    }

    @Test func postgres() async throws {
        try await on(["postgres"]) { s in
            try await s.ok("network create app")
            let server = "run -d --name db --network app -e POSTGRES_PASSWORD=secret -v data:/data localhost/postgres"
            try await s.ok(server)
            let client = "run --rm --network app -e PGPASSWORD=secret localhost/postgres"
            try await s.becomes("exec db pg_isready -h 127.0.0.1", seconds: 240)
            try await s.ok(
                "\(client) psql -h db -tAc 'create table t as select generate_series(1, 1000) a; select sum(a) from t'",
                has: "500500", seconds: 200)
            // It ends cleanly by the image's own signal, and a new container finds its data in the volume.
            try await s.ok("stop -t 40 db")
            try await s.ok("inspect -f {{.State.ExitCode}} db", "0")
            try await s.ok("rm db")
            try await s.ok(server)
            try await s.becomes("exec db pg_isready -h 127.0.0.1", seconds: 240)
            try await s.ok("\(client) psql -h db -tAc 'select count(*) from t'", "1000", seconds: 200)
            try await s.ok("rm -f -v db")
            try await s.ok("volume rm data")
        }
    }

    @Test func nginx() async throws {
        try await on(["nginx"]) { s in
            _ = try s.file("index.html", "from nginx\n")
            chmod(s.scratch, 0o755)
            try await s.ok("run -d --name web -p 127.0.0.1:8080:80 -v \(s.scratch):/var/www/html:ro localhost/nginx")
            try await s.shell("until wget -qO- http://127.0.0.1:8080/index.html; do sleep 0.5; done", "from nginx", seconds: 120)
            // Ten at once, and a graceful end by SIGQUIT.
            try await s.shell(
                "for n in 1 2 3 4 5 6 7 8 9 10; do wget -qO- http://127.0.0.1:8080/index.html & done; wait",
                String(repeating: "from nginx\n", count: 10).trimmed)
            try await s.ok("stop -t 30 web")
            try await s.ok("inspect -f {{.State.ExitCode}} web", "0")
        }
    }

    @Test func systemd() async throws {
        try await on(["systemd"]) { s in
            try await s.ok("run -d --name init --privileged localhost/systemd")
            try await s.becomes("exec init sh -c 'systemctl is-system-running | grep -E \"running|degraded\"'", seconds: 240)
            try await s.ok("exec init systemctl --failed --no-legend --plain", "")
            try await s.ok("exec init cat /run/hello", "started")
            try await s.ok("stop -t 60 init", seconds: 120)
            try await s.ok("start init", seconds: 120)
            try await s.becomes("exec init cat /var/hello", "stopped", seconds: 120)
        }
    }

    /// Podman sees that the command is systemd, and prepares for it: no more rights are needed.
    @Test func systemdUnderPodman() async throws {
        try await on(["systemd"], under: try await Podman(.hull)) { s in
            try await s.ok("run -d --name init --systemd always localhost/systemd")
            try await s.becomes("exec init sh -c 'systemctl is-system-running | grep -E \"running|degraded\"'", seconds: 240)
            try await s.ok("exec init systemctl --failed --no-legend --plain", "")
            try await s.ok("exec init cat /run/hello", "started")
            try await s.ok("stop -t 60 init", seconds: 120)
            try await s.ok("inspect -f {{.State.ExitCode}} init", "0")
        }
    }

    /// dockerd in a container of Podman's (Docker 20.10 has no annotations), whose data is on an ext4 disk of its own: it uses overlay2, and
    /// finds its images again in the next container that has the disk.
    @Test func dockerOnItsOwnDisk() async throws {
        try await on(["docker"], under: try await Podman(.hull)) { s in
            try await s.configured(#"allow = ["disks"]"#, #"disk-folders = ["$S"]"#) {
                // dockerd gives its containerd some seconds to answer, and gives up: a busy machine's is begun anew.
                let server =
                    "run -d --name server --restart on-failure --privileged --image-volume ignore -m 700m --annotation run.hull.disks=\(s.scratch)/d.img:/var/lib/docker:4g localhost/docker"
                try await s.ok(server, seconds: 180)
                try await s.becomes("exec server docker version", seconds: 240)
                try await s.ok("exec server docker info -f {{.Driver}}", "overlay2")
                try await s.ok(
                    "exec server sh -c 'mkdir -p /box/bin && cp /bin/busybox /box/bin && ln -s busybox /box/bin/sh && tar -C /box -c . | docker import - box:1'",
                    has: "sha256:", seconds: 120)
                try await s.ok(
                    "exec server docker run --rm -p 80:80 --memory 64m box:1 /bin/sh -c 'busybox cat /sys/fs/cgroup/memory.max; busybox ping -c 1 172.17.0.1 >/dev/null && echo reached'",
                    "67108864\nreached", seconds: 180)
                try await s.ok("stop -t 40 server", seconds: 90)
                try await s.ok("rm server")
                try await s.ok(server, seconds: 180)
                try await s.becomes("exec server docker image inspect box:1", seconds: 240)
                try await s.ok("exec server docker run --rm --network none box:1 /bin/busybox echo again", "again", seconds: 180)
                try await s.ok("rm -f -t 0 server")
            }
        }
    }
}

extension String {
    fileprivate var trimmed: String { last == "\n" ? String(dropLast()) : self }
}

private enum Workloads {
    static let areAsked = getenv("HULL_WORKLOADS") != nil && Bench.canRun(.docker)
}
