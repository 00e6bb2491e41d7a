import Foundation
import Testing

extension IntegrationTests {
    /// Programs that people run: what they need of a kernel, of cgroups, devices, volumes and ports.
    @Suite struct Workloads {
        let lab = Lab.shared

        static let hasAll = ProcessInfo.processInfo.environment["HULL_WORKLOADS"] != nil

        private func image(_ name: String) throws -> String {
            let path = String(lab.image.dropFirst("oci-archive:".count)).replacingOccurrences(of: "busybox", with: name)
            try #require(FileManager.default.fileExists(atPath: path), "\(path) is missing: run scripts/make-image.sh \(name)")
            return path
        }

        /// Runs a script in a container again and again until it succeeds.
        private func until(_ name: String, _ script: String, seconds: Int = 90) throws {
            try lab.good("exec", name, "sh", "-c", "until \(script); do sleep 0.5; done >/dev/null 2>&1", seconds: seconds)
        }

        /// PostgreSQL on Debian, pushed to a registry on the loopback and pulled from it, with a volume and a published port.
        @Test func postgres() throws {
            let folder = try lab.scratch("registry")
            try lab.write(
                "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: \(folder)}}\nhttp: {addr: \"127.0.0.1:5001\"}\n",
                to: "\(folder)/config.yml")
            let registry = try Program(lab.inside(["docker-registry", "serve", "\(folder)/config.yml"]))
            defer {
                registry.signal(SIGKILL)
                _ = try? registry.finish()  // it was killed
            }
            try lab.host("sh", "-c", "until ss -tlnH sport = :5001 | grep -q .; do sleep 0.05; done")
            let pushed = try lab.host(
                "skopeo", "copy", "-q", "--dest-tls-verify=false", "oci-archive:\(try image("postgres"))",
                "docker://127.0.0.1:5001/postgres:15", seconds: 120)
            try #require(pushed.code == 0, "\(pushed.errors)")
            let name = "127.0.0.1:5001/postgres:15"
            try lab.good(
                "run", "-d", "--name", "pg", "-e", "POSTGRES_PASSWORD=secret", "-v", "pgdata:/data", "-p", "127.0.0.1:5432:5432",
                name,
                seconds: 180)
            defer {
                // The suite's end looks for what is left.
                _ = try? lab.hull("rm", "-f", "pg")
                _ = try? lab.hull("volume", "rm", "pgdata")
                _ = try? lab.hull("rmi", name)
            }
            try until("pg", "pg_isready -h 127.0.0.1")
            let network = try #require(lab.inspect("pg")["NetworkSettings"] as? [String: Any])
            let address = try #require((network["Addresses"] as? [String])?.first)
            let client = try lab.good(
                "run", "--rm", "-e", "PGPASSWORD=secret", name, "psql", "-h", address, "-tAc",
                "create table t as select generate_series(1, 1000) a; select sum(a) from t", seconds: 90)
            #expect(client.lines.last == "500500", "\(client.errors)")
            // The published port, from the host: the server's answer to a request for TLS is one letter.
            let greeting = try lab.host(
                "sh", "-c", "printf '\\0\\0\\0\\010\\004\\322\\026\\057' | timeout 10 nc -q 1 127.0.0.1 5432 | head -c 1")
            #expect(["N", "S"].contains(greeting.text), "\(greeting.text) \(greeting.errors)")
            // It ends cleanly by the image's own signal, and finds its data again.
            try lab.good("stop", "-t", "30", "pg")
            #expect(try lab.state("pg")["ExitCode"] as? Int == 0)
            try lab.good("start", "pg")
            try until("pg", "pg_isready -h 127.0.0.1")
            #expect(
                try lab.good("exec", "-e", "PGPASSWORD=secret", "pg", "psql", "-h", "127.0.0.1", "-tAc", "select count(*) from t")
                    .word == "1000")
        }

        @Test(.enabled(if: hasAll, "part of make test-workloads")) func systemd() throws {
            try lab.good("run", "-d", "--name", "systemd", "--privileged", "oci-archive:\(try image("systemd"))", seconds: 120)
            defer { _ = try? lab.hull("rm", "-f", "systemd") }  // as above
            try until("systemd", "systemctl is-system-running | grep -E 'running|degraded'", seconds: 180)
            let failed = try lab.good("exec", "systemd", "systemctl", "--failed", "--no-legend", "--plain").text
            #expect(failed == "")
            #expect(try lab.good("exec", "systemd", "cat", "/run/hello").word == "started")
            #expect(
                try lab.good(
                    "exec", "systemd", "sh", "-c", "test -c /dev/fuse && test -c /dev/net/tun && test -c /dev/kmsg && echo all"
                ).word == "all")
            // SIGRTMIN+3, the image's own: services are stopped, and the machine ends.
            try lab.good("stop", "-t", "60", "systemd", seconds: 90)
            #expect(try lab.state("systemd")["ExitCode"] as? Int == 130)
            try lab.good("start", "systemd")
            #expect(try lab.good("exec", "systemd", "cat", "/var/hello").word == "stopped")
        }

        @Test(
            .enabled(if: hasAll, "part of make test-workloads"), arguments: [[], ["--tmpfs", "/var/lib/docker:exec,suid,dev"]])
        func docker(_ flags: [String]) throws {
            let archive = "oci-archive:\(try image("docker"))"
            #expect(try lab.hull(["run", "-d", "--name", "dockerd", "--privileged"] + flags + [archive], seconds: 120).code == 0)
            defer { _ = try? lab.hull("rm", "-f", "-v", "dockerd") }  // as above
            try until("dockerd", "docker version", seconds: 120)
            try lab.good(
                "exec", "dockerd", "sh", "-c",
                "mkdir -p /box/bin && cp /bin/busybox /box/bin && ln -s busybox /box/bin/sh && tar -C /box -c . | docker import - box:1"
            )
            let output = try lab.good(
                "exec", "dockerd", "docker", "run", "--rm", "-p", "80:80", "--memory", "64m", "box:1", "/bin/sh", "-c",
                "busybox cat /sys/fs/cgroup/memory.max; busybox ping -c 1 172.17.0.1 >/dev/null && echo reached", seconds: 120)
            #expect(output.text == "67108864\nreached\n", "\(output.errors)")
            let driver = try lab.good("exec", "dockerd", "docker", "info", "-f", "{{.Driver}}").word
            #expect(driver == (flags.isEmpty ? "vfs" : "overlay2"))
            try lab.good("stop", "-t", "30", "dockerd")
        }
    }
}
