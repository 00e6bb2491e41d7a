import LinuxSystem

extension Row {
    /// Counts, ten lines a second; every number must come once.
    private static let counter = "'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'"

    /// What no other runtime of machines has. (runc and crun need a CRIU that works on the host, so they are not asked.)
    static let checkpoints: [Row] = [
        Row("a checkpoint goes on", .checkpoint, on: [.docker], short: [.docker], machineOnly: true) { s in
            try await s.ok("run -d --name one @ sh -c \(counter)")
            try await s.becomes("logs one", has: "\n5")
            try await s.ok(
                "exec one sh -c 'echo kept >/kept; head -c 100000 /dev/urandom >/dev/shm/big; md5sum /dev/shm/big >/sum'")
            try await s.ok("checkpoint create one first", seconds: 120)
            try await s.becomes("inspect -f '{{.State.Running}} {{.State.ExitCode}}' one", "false 137")
            let before = try await counted(s, "one")
            try await s.ok("start --checkpoint first one", seconds: 120)
            try await s.becomes("logs one", has: "\n\(before + 5)")
            try await counted(s, "one")
            try await s.ok("exec one sh -c 'cat /kept; md5sum -c /sum'", "kept\n/dev/shm/big: OK")
            try await s.ok("exec one sh -c 'ping -c 1 -W 5 \(Docker.bridge) >/dev/null && echo reached'", "reached")
            // One beside the other, and the container goes on.
            try await s.ok("checkpoint create --leave-running one second", seconds: 120)
            try await s.ok("inspect -f '{{.State.Running}} {{.State.Paused}}' one", "true false")
            let left = try await counted(s, "one")
            try await s.becomes("logs one", has: "\n\(left + 3)")
            try await s.ok("checkpoint ls one", has: "second")
            try await s.ok("kill one")
            try await s.ok("start --checkpoint second one", seconds: 120)
            try await s.ok("exec one cat /kept", "kept")
        },
        Row("a checkpoint of an open terminal, and of a limit that was raised", .checkpoint, on: [.docker], machineOnly: true) {
            s in
            try await s.ok("run -d -t --name one -m 200m --shm-size 400m @ sh -c 'stty -a | head -n 1; sleep 1; cat'")
            try await s.ok("update -m 700m --memory-swap 700m one")
            try await s.ok(
                "exec one sh -c 'dd if=/dev/urandom of=/dev/shm/big bs=1M count=250 2>/dev/null; md5sum /dev/shm/big >/sum'",
                seconds: 180)
            try await s.ok("checkpoint create one first", seconds: 180)
            try await s.ok("start --checkpoint first one", seconds: 180)
            try await s.ok("exec one md5sum -c /sum", "/dev/shm/big: OK", seconds: 120)
        },
        Row("a checkpoint that is none is refused", .checkpoint, on: [.docker], machineOnly: true) { s in
            try await s.ok("run -d --name one @ sleep 1000")
            try await s.ok("checkpoint create one first", seconds: 120)
            let id = try await s.ok("inspect -f {{.Id}} one")
            let folder = try await s.ok("info -f {{.DockerRootDir}}") + "/containers/\(id)/checkpoints/first"
            try await s.shell("printf x | dd of=\(folder)/hull.snapshot bs=1 seek=5000000 conv=notrunc 2>/dev/null")
            try await s.fails("start --checkpoint first one", says: "not what it was")
            try await s.ok("inspect -f '{{.State.Running}}' one", "false")
            try await s.ok("start one")
        },
        Row("a checkpoint is restored, and one that travelled", .checkpoint, on: [.podman], short: [.podman], machineOnly: true) {
            s in
            try await s.ok("run -d --name one @ sh -c \(counter)")
            try await s.becomes("logs one", has: "\n5")
            try await s.ok("exec one sh -c 'echo kept >/kept'")
            try await s.ok("container checkpoint one", seconds: 120)
            try await s.ok("inspect -f '{{.State.Running}} {{.State.Checkpointed}}' one", "false true")
            let before = try await counted(s, "one")
            try await s.ok("container restore one", seconds: 120)
            try await s.becomes("logs one", has: "\n\(before + 5)")
            try await counted(s, "one")
            try await s.ok("exec one cat /kept", "kept")
            // To a file, from which another one is made, while it goes on.
            try await s.ok("container checkpoint --leave-running --export \(s.scratch)/it.tar.gz one", seconds: 120)
            try await s.ok("exec one sh -c 'echo later >/kept'")
            try await s.ok("container restore --import \(s.scratch)/it.tar.gz --name two", seconds: 120)
            try await s.ok("exec two cat /kept", "kept")
            try await s.ok("exec one cat /kept", "later")
            let first = try await s.ok("exec one cat /proc/sys/kernel/random/uuid")
            try await s.ok("exec two cat /proc/sys/kernel/random/uuid", has: "-")
            try s.expect(first != "", "uuid", "one", first)
        },
    ]

    /// How far it has counted.
    @discardableResult @Loop
    private static func counted(_ s: Stage, _ name: String) async throws -> Int {
        let lines = try await s.ok("logs \(name)").split(separator: "\n")
        for (index, line) in lines.enumerated() where line != "\(index + 1)" {
            try s.expect(false, "line \(index + 1) of the log", "\(index + 1)", String(line))
        }
        return lines.count
    }
}
