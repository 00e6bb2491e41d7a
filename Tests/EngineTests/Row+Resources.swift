extension Row {
    /// What a container may use, who it is, and what it may do.
    static let resources: [Row] = [
        Row("-m is the container's limit", .memory, short: [.docker]) { s in
            try await s.ok(
                "run --rm -m 96m @ sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true'",
                "100663296")
        },
        Row("free shows the memory that -m gives", .memory, short: [.docker], machineOnly: true) { s in
            let text = try await s.ok("run --rm -m 300m @ sh -c 'free -m | awk \"/Mem:/ {print \\$2}\"'")
            try s.expect((Int(text) ?? 0) > 150 && (Int(text) ?? 0) < 420, "free -m under -m 300m", "150 … 420", text)
        },
        Row("--cpus bounds the time", .cpus) { s in
            let spin = "t0=$(cut -d' ' -f1 /proc/uptime | tr -d .); i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
            let path = try s.file(
                "spin.sh", "\(spin); cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null | cut -d' ' -f1\n"
            )
            try await s.ok("run --rm --cpus 0.5 -v \(path):/spin.sh @ sh /spin.sh", "50000")
        },
        Row("--cpus is the quota of the host's cgroup", .cpus) { s in
            try await s.ok("run -d --name one --cpus 0.5 @ sleep 1000")
            try await s.shell(
                "p=/proc/$($C inspect -f {{.State.Pid}} one)/cgroup; g=$(sed -n 's/^[0-9]*:cpu,cpuacct://p;s/^[0-9]*:cpu://p' $p | head -1); cat /sys/fs/cgroup/cpu$g/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup$(sed -n 's/^0:://p' $p)/cpu.max",
                "50000")
        },
        Row("--device-read-bps is in the host's cgroup", .update) { s in
            try await s.ok("run -d --name one --device-read-bps /dev/vda:1mb @ sleep 1000")
            try await s.shell(
                "p=/proc/$($C inspect -f {{.State.Pid}} one)/cgroup; cat /sys/fs/cgroup/blkio$(sed -n 's/^[0-9]*:blkio://p' $p)/blkio.throttle.read_bps_device 2>/dev/null || cat /sys/fs/cgroup$(sed -n 's/^0:://p' $p)/io.max",
                has: "1048576")
        },
        Row("nproc shows what --cpus gives", .cpus, machineOnly: true) { s in
            try await s.ok("run --rm --cpus 1 @ nproc", "1")
            try await s.ok("run --rm --cpus 2 @ nproc", "2")
        },
        Row("--cpuset-cpus is seen", .cpus) { s in try await s.ok("run --rm --cpuset-cpus 0 @ nproc", "1") },
        Row("--cpu-shares is taken", .cpus) { s in try await s.ok("run --rm --cpu-shares 512 @ echo ok", "ok") },
        Row("--pids-limit bounds processes", .pids) { s in
            let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 3 & done; wait; echo all"
            let call = try await s.call("run --rm --pids-limit 8 @ sh -c '\(script)'")
            try s.expect(!call.text.contains("all") && call.errors.contains("fork"), call.line, "a fork that fails", "\(call)")
        },
        Row("update changes the limit of a running one", .update, short: [.docker]) { s in
            try await s.ok("run -d --name one -m 96m --memory-swap 96m @ sleep 1000")
            try await s.ok(
                s.engine.kind == .docker ? "update -m 128m --memory-swap 128m one" : "update --memory 128m --memory-swap 128m one"
            )
            let file = "sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true'"
            try await s.becomes("exec one \(file)", "134217728", seconds: 5)
        },
        Row("update grows and shrinks the machine", .update, short: [.podman], machineOnly: true) { s in
            let update = s.engine.kind == .docker ? "update -m" : "update --memory"
            try await s.ok("run -d --name one -m 128m --memory-swap 128m --cpus 1 @ sleep 1000")
            func free() async throws -> Int { Int(try await s.ok("exec one sh -c 'free -m | awk \"/Mem:/ {print \\$2}\"'")) ?? 0 }
            let began = try await free()
            try await s.ok("\(update) 768m --memory-swap 768m --cpus 2 one")
            let grown = try await free()
            try s.expect(grown - began == 640, "free -m after update -m 768m", "640 more than \(began)", "\(grown)")
            try await s.ok("exec one nproc", "2")
            // It is there: more than the machine began with.
            try await s.ok("exec one sh -c 'dd if=/dev/zero of=/dev/null bs=400M count=1 2>&1'", has: "1+0 records out")
            try await s.ok("\(update) 96m --memory-swap 96m --cpus 1 one")
            let shrunk = try await free()
            try s.expect(shrunk < began, "free -m after update -m 96m", "less than \(began)", "\(shrunk)")
            try await s.ok("exec one nproc", "1")
        },
        Row("update changes its processors' time", .update) { s in
            try await s.ok("run -d --name one --cpus 1 @ sleep 1000")
            try await s.ok("update --cpus 0.5 one")
            let file = "sh -c 'cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null | cut -d\" \" -f1'"
            try await s.becomes("exec one \(file)", "50000", seconds: 5)
        },
        Row("pause stops it and unpause goes on", .pause, short: [.docker]) { s in
            try await s.ok("run -d --name one @ sh -c 'while :; do i=$((i+1)); echo $i >/n; mv /n /now; sleep 0.05; done'")
            try await s.becomes("exec one cat /now", has: "1")
            try await s.ok("pause one")
            try await s.ok("inspect -f {{.State.Status}} one", "paused")
            try await s.fails("exec one true")
            let (first, second) = (
                try await s.shell("$C cp one:/now - | tar xO"), try await s.shell("sleep 0.3; $C cp one:/now - | tar xO")
            )
            try s.expect(first == second, "two looks at a paused container", first, second)
            try await s.ok("unpause one")
            try await s.shell("sleep 0.3; test $($C exec one cat /now) != \(first)")
        },
        Row("stats tell memory, time and processes", .stats) { s in
            try await s.ok("run -d --name one -m 256m @ sh -c 'while :; do :; done'")
            try await s.shell("sleep 1")
            let text = try await s.ok("stats --no-stream --format '{{.MemUsage}} {{.CPUPerc}}' one")
            try s.expect(!text.hasPrefix("0B") && !text.contains("--"), "stats", "a use of memory", text)
        },
        Row("top lists the container's processes", .top) { s in
            try await s.ok("run -d --name one @ sleep 1234")
            try await s.ok("top one", has: "sleep 1234")
        },
        Row("top takes ps's own words", .top) { s in
            try await s.ok("run -d --name one @ sleep 1234")
            try await s.ok("top one -eo pid,comm", has: "sleep")
        },
        Row("-u takes ids and names", .user, short: [.podman]) { s in
            try await s.ok("run --rm -u 1000 @ id -u", "1000")
            try await s.ok("run --rm -u app @ sh -c 'id -u; id -g; echo $HOME'", "1000\n1000\n/home/app")
            try await s.ok("run --rm -u 4000:4001 @ sh -c 'id -u; id -g'", "4000\n4001")
        },
        Row("groups are the image's and --group-add's", .groups) { s in
            try await s.ok("run --rm -u app --group-add audio --group-add 777 @ id -G", "1000 29 44 777")
        },
        Row("the umask is 022", .umask) { s in try await s.ok("run --rm @ sh -c 'umask'", "0022") },
        Row("--umask sets another", .umask, on: [.podman]) { s in try await s.ok("run --rm --umask 0077 @ sh -c 'umask'", "0077")
        },
        Row("the default capabilities are the engine's", .capabilities) { s in
            let mask = "CapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb"
            try await s.ok("run --rm @ grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status", mask)
        },
        Row("--cap-drop and --cap-add", .capabilities) { s in
            try await s.ok("run --rm --cap-drop ALL --cap-add CHOWN @ grep CapEff /proc/self/status", "CapEff:\t0000000000000001")
            try await s.fails("run --rm --cap-drop CHOWN @ chown 5 /tmp", says: "not permitted")
            try await s.ok("run --rm --cap-add NET_ADMIN @ sh -c 'ip link set lo down && echo ok'", "ok")
        },
        Row("a user has no capabilities in effect", .capabilities) { s in
            try await s.ok("run --rm -u 1000 @ grep CapEff /proc/self/status", "CapEff:\t0000000000000000")
        },
        Row("--ulimit sets both limits", .rlimits) { s in
            try await s.ok(
                "run --rm --ulimit nofile=100:200 --ulimit nproc=5000:5000 @ sh -c 'ulimit -n; ulimit -Hn'", "100\n200")
            try await s.ok("run --rm --ulimit core=0 --ulimit nofile=100:200 --ulimit nproc=5000:5000 @ sh -c 'ulimit -c'", "0")
        },
        Row("no-new-privileges", .noNewPrivileges) { s in
            try await s.ok("run --rm --security-opt no-new-privileges @ grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1")
            try await s.ok("run --rm @ grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0")
        },
        Row("the engine's seccomp filter is there", .seccomp) { s in
            try await s.ok("run --rm @ grep Seccomp: /proc/self/status", "Seccomp:\t2")
            try await s.ok("run --rm --security-opt seccomp=unconfined @ grep Seccomp: /proc/self/status", "Seccomp:\t0")
        },
        Row("a seccomp profile of one's own", .seccomp) { s in
            let profile = try s.file(
                "profile.json",
                """
                {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                 "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}
                """)
            let call = try await s.call("run --rm --security-opt seccomp=\(profile) @ mkdir /x")
            try s.expect(call.code == 1 && call.errors.contains("ermission denied"), call.line, "1, permission denied", "\(call)")
            try await s.ok("run -d --name one --security-opt seccomp=\(profile) @ sleep 1000")
            try await s.ends("exec one mkdir /x", 1)
        },
        Row("--sysctl of the network and of IPC", .sysctl) { s in
            try await s.ok(
                "run --rm --sysctl net.ipv4.ip_default_ttl=42 --sysctl kernel.msgmax=4321 @ cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax",
                "42\n4321")
        },
        Row("--read-only keeps the root", .readOnly) { s in
            try await s.ends("run --rm --read-only @ touch /x", 1, says: "Read-only file system")
            try await s.ok("run --rm --read-only --tmpfs /t @ sh -c 'touch /t/x && ls /t'", "x")
        },
        Row("masked paths are empty", .masked) { s in
            try await s.ok(
                "run --rm @ sh -c 'cat /proc/kcore /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l'", "0\n0")
        },
        Row("read-only paths refuse", .masked) { s in
            try await s.fails("run --rm @ sh -c 'echo 1 >/proc/sys/vm/drop_caches'", says: "Read-only")
        },
        Row("--oom-score-adj", .oomScore) { s in
            try await s.ok("run --rm --oom-score-adj 321 @ cat /proc/self/oom_score_adj", "321")
        },
        Row("-w makes the folder", .process, on: [.docker]) { s in try await s.ok("run --rm -w /not/there @ pwd", "/not/there") },
        Row("-e and --env-file", .process, short: [.docker]) { s in
            let file = try s.file("env", "FROM_FILE=f\n")
            try await s.ok(
                "run --rm -e A=1 -e 'B=two words' --env-file \(file) @ sh -c 'echo \"$A $B $FROM_FILE $IMAGE\"'",
                "1 two words f engines")
        },
        Row("--entrypoint and arguments", .process) { s in
            try await s.ok("run --rm --entrypoint printf @ '%s-%s' 'a b' c", "a b-c")
        },
        Row("the command is process 1", .process) { s in
            try await s.ok("run --rm @ sh -c 'echo $$; ls /proc | grep -c ^[0-9]'", has: "1\n")
        },
        Row("--init is process 1 and reaps", .initProcess) { s in
            try await s.ends(
                "run --rm --init @ sh -c 'test $$ != 1 && (sleep 0.2 &) ; sleep 0.6; ps -o stat | grep -c Z'", 1, "0")
            try await s.ends("run --rm --init @ sh -c 'kill -9 $$'", 137)
        },
        Row("--privileged has every capability of the guest", .privileged) { s in
            let text = try await s.ok(
                "run --rm --privileged @ sh -c 'mount -t tmpfs t /tmp && echo mounted; grep CapEff /proc/self/status'")
            let parts = text.split(separator: "\t")
            let mask = parts.last.flatMap { UInt64($0, radix: 16) } ?? 0
            // CAP_SYS_MODULE, CAP_SYS_ADMIN, CAP_MAC_ADMIN: engines ask for those that they know and the host has.
            let all = [16, 21, 33].allSatisfy { mask >> $0 & 1 == 1 }
            try s.expect(text.hasPrefix("mounted") && all, "--privileged", "a mount, and all capabilities", text)
        },
    ]
}
