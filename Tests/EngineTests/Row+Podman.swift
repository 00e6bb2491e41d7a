extension Row {
    /// What only Podman has.
    static let podmans: [Row] = [
        Row("a pod's containers share the network", .pods, on: [.podman], short: [.podman]) { s in
            try await s.ok("pod create --name pod --infra-command '/bin/sleep 10000' --infra-image \(Bench.image)")
            try await s.ok("run -d --name one --pod pod @ sh -c 'echo podded | nc -l -p 7000; sleep 1000'")
            try await s.ok(
                "run --rm --pod pod @ sh -c 'for i in 1 2 3 4 5 6 7 8 9; do nc -w 3 127.0.0.1 7000 </dev/null && break; sleep 0.3; done'",
                "podded")
        },
        Row("a pod's containers share host name and IPC", .pods, on: [.podman]) { s in
            try await s.ok(
                "pod create --name pod --hostname podhost --infra-command '/bin/sleep 10000' --infra-image \(Bench.image)")
            try await s.ok("run -d --name one --pod pod @ sh -c 'echo x >/dev/shm/x; sleep 1000'")
            try await s.becomes("run --rm --pod pod @ sh -c 'hostname; cat /dev/shm/x'", "podhost\nx")
        },
        Row("a pod stops, starts and goes", .pods, on: [.podman]) { s in
            try await s.ok("pod create --name pod --infra-command '/bin/sleep 10000' --infra-image \(Bench.image)")
            try await s.ok("run -d --name one --pod pod @ sleep 1000")
            try await s.ok("pod stop -t 0 pod")
            try await s.ok("inspect -f {{.State.Running}} one", "false")
            try await s.ok("pod start pod")
            try await s.ok("exec one echo back", "back")
            try await s.ok("pod rm -f -t 0 pod")
            try await s.ok("ps -aq", "")
        },
        Row("a pod without an infra container", .pods, on: [.podman]) { s in
            try await s.ok("pod create --name pod --infra=false")
            try await s.ok("run --rm --pod pod @ echo alone", "alone")
        },
        Row("generate kube and play kube", .kube, on: [.podman]) { s in
            try await s.ok("run -d --name one -e A=kube @ sleep 1000")
            try await s.ok("generate kube -f \(s.scratch)/one.yml one")
            try await s.ok("rm -f -t 0 one")
            try await s.shell("sed -i 's/imagePullPolicy.*//' $S/one.yml; cat $S/one.yml", has: "kind: Pod")
            try await s.ok("play kube --network none \(s.scratch)/one.yml")
            try await s.ok("exec one-pod-one sh -c 'echo $A'", "kube")
            try await s.ok("play kube --down \(s.scratch)/one.yml")
        },
        Row("prestart and createRuntime hooks run outside, startContainer inside", .hooks, on: [.podman]) { s in
            for stage in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
                let script = try s.file("\(stage).sh", "#!/bin/sh\ncat >\(s.scratch)/\(stage).json\n")
                try await s.host("chmod 755 \(script)")
                let hook = #"{"version":"1.0.0","hook":{"path":"\#(script)"},"when":{"always":true},"stages":["\#(stage)"]}"#
                try await s.host("mkdir -p \(s.scratch)/hooks.d")
                _ = try s.file("hooks.d/\(stage).json", hook)
            }
            let inner =
                #"{"version":"1.0.0","hook":{"path":"/bin/touch","args":["touch","/started"]},"when":{"always":true},"stages":["startContainer"]}"#
            _ = try s.file("hooks.d/startContainer.json", inner)
            let client = s.engine.client.dropFirst().joined(separator: " ")
            try await s.host(
                "/usr/bin/podman --hooks-dir \(s.scratch)/hooks.d \(client) run --name one \(Bench.image) ls /started", "/started"
            )
            try await s.ok("rm one")
            for (stage, status) in [
                ("prestart", "creat"), ("createRuntime", "creat"), ("createContainer", "creat"), ("poststart", ""),
                ("poststop", "stopped"),
            ] {
                try await s.shell("grep -o '\"status\": *\"[a-z]*' $S/\(stage).json", has: status)
                try await s.shell("grep -c '\"bundle\":' $S/\(stage).json", "1")
            }
        },
        Row("a hook that fails stops the start", .hooks, on: [.podman]) { s in
            try await s.host("mkdir -p \(s.scratch)/hooks.d")
            _ = try s.file(
                "hooks.d/bad.json",
                #"{"version":"1.0.0","hook":{"path":"/bin/false"},"when":{"always":true},"stages":["createRuntime"]}"#)
            let client = s.engine.client.dropFirst().joined(separator: " ")
            let call = try await s.site.run(
                "/usr/bin/podman --hooks-dir \(s.scratch)/hooks.d \(client) run --rm \(Bench.image) echo no".words,
                environment: s.engine.environment)
            try s.expect(call.code != 0 && call.text == "", "a failing createRuntime hook", "a failure", "\(call)")
        },
        Row("an annotation sizes the machine", .annotations, on: [.podman], machineOnly: true) { s in
            let text = try await s.ok(
                "run --rm --annotation run.hull.memory=700m --annotation run.hull.vcpus=2 @ sh -c 'nproc; free -m | awk \"/Mem:/ {print \\$2}\"'"
            )
            try s.expect(text.hasPrefix("2\n") && (Int(text.dropFirst(2)) ?? 0) > 500, "annotations", "2 and more than 500", text)
        },
        Row("user ids of one's own", .identityMaps, on: [.podman]) { s in
            try await s.ok(
                "run --rm --uidmap 0:100000:5000 --gidmap 0:100000:5000 @ sh -c 'id -u; awk \"{print \\$1, \\$2, \\$3}\" /proc/self/uid_map'",
                "0\n0 100000 5000")
        },
        Row("user ids of one's own are the owners outside", .identityMaps, on: [.podman]) { s in
            try await s.host("chmod 777 \(s.scratch)")
            try await s.ok(
                "run -d --name one --uidmap 0:100000:5000 --gidmap 0:200000:5000 -v \(s.scratch):/mnt @ sh -c 'touch /mnt/f /in; chown 7:8 /mnt/f; sleep 1000'"
            )
            try await s.becomes("exec one stat -c '%u %g' /mnt/f", "7 8")
            try await s.host("stat -c '%u %g' \(s.scratch)/f", "100007 200008")
            try await s.ok("exec one sh -c 'id -u; stat -c %u /in /dev/shm /proc/1/exe'", "0\n0\n0\n0")
            try await s.ok("exec -u 9:10 one id", has: "uid=9 gid=10")
            try await s.ok("exec -t one sh -c 'stat -c %u $(tty)'", "0")
        },
        // runc has it from 1.2 on.
        Row("--personality changes what uname says", .process, on: [.podman], machineOnly: true) { s in
            try await s.ok("run --rm --personality LINUX32 @ uname -m", "i686")
        },
        Row("what an annotation may not is refused", .annotations, on: [.podman], machineOnly: true) { s in
            try await s.fails("run --rm --annotation run.hull.kernel=/etc/passwd @ true", says: "is not allowed here")
            try await s.fails("run --rm --annotation run.hull.vcpus=many @ true", says: "is no number")
        },
        Row("a disk by annotation", .annotations, on: [.podman], machineOnly: true) { s in
            let disk = "--annotation run.hull.disks=\(s.scratch)/d.img:/etc/ssl:256m"
            let moved = "--annotation run.hull.disks=\(s.scratch)/d.img:/etc/new"
            try await s.configured(#"allow = ["disks"]"#, #"disk-folders = ["$S"]"#) {
                try await s.ok("run --rm \(disk) @ sh -c 'grep -c \" /etc/ssl ext4\" /proc/mounts; echo kept >/etc/ssl/new'", "1")
                try await s.ok("run --rm \(disk) @ cat /etc/ssl/new", "kept")
                try await s.ok("run --rm \(moved) @ cat /etc/new/new", "kept")
                try await s.fails("run --rm --annotation run.hull.disks=/root/d.img:/d @ true", says: "is in no folder")
            }
        },
        Row("hypervisor, machine, kernel and its arguments by annotation", .annotations, on: [.podman], machineOnly: true) { s in
            try await s.shell("cp $(ls /boot/vmlinuz-* | tail -1) $S/mine")
            try await s.configured(#"allow = ["hypervisor", "machine", "kernel", "kernel-args"]"#, #"kernels = ["$S/mine"]"#) {
                func say(_ name: String, _ value: String) -> String { "--annotation run.hull.\(name)=\(value)" }
                try await s.ok(
                    "run --rm \(say("kernel-args", "marked")) \(say("hypervisor", "qemu")) @ cat /proc/cmdline", has: "marked")
                // A q35 has PCI, a microvm nothing of it.
                let text = try await s.ok("run --rm \(say("machine", "q35")) @ sh -c 'ls /sys/bus/pci/devices | wc -l'")
                try s.expect((Int(text) ?? 0) > 0, "PCI devices of a q35", "some", text)
                try await s.ok("run --rm \(say("kernel", "\(s.scratch)/mine")) @ echo booted", "booted")
                try await s.fails("run --rm \(say("kernel", "\(s.scratch)/other")) @ true", says: "other")
                try await s.fails("run --rm \(say("hypervisor", "abacus")) @ true", says: "abacus")
                try await s.fails("run --rm \(say("machine", "abacus")) @ true", says: "abacus")
                try await s.fails("run --rm \(say("memory", "1g")) @ true", says: "is not allowed here")
            }
        },
        Row("init makes it ready", .life, on: [.podman]) { s in
            try await s.ok("create --name one @ echo made")
            try await s.ok("init one")
            try await s.ok("start -a one", "made")
        },
        Row("a folder as the root", .life, on: [.podman]) { s in
            try await s.ok("create --name one @ true")
            try await s.shell("$C export one | tar -x -C $(mkdir $S/root; echo $S/root)")
            try await s.ok("run --rm --rootfs \(s.scratch)/root echo rooted", "rooted")
        },
        Row("a secret is a file", .files, on: [.podman]) { s in
            let file = try s.file("secret", "hush")
            try await s.ok("secret create hidden \(file)")
            try await s.ok("run --rm --secret hidden @ cat /run/secrets/hidden", "hush")
            try await s.ok("secret rm hidden")
        },
        Row("--timeout ends it", .life, on: [.podman]) { s in
            let call = try await s.call("run --rm --timeout 2 @ sleep 1000")
            try s.expect(call.code != 0, call.line, "a code of a killed one", "\(call.code)")
        },
        Row("mount shows the running root", .copy, on: [.podman]) { s in
            try await s.ok("run -d --name one @ sh -c 'echo seen >/seen; sleep 1000'")
            try await s.shell("sleep 0.3; cat $($C mount one)/seen", "seen")
        },
        Row("an image as a volume", .volumes, on: [.podman]) { s in
            try await s.ok(
                "run --rm --mount type=image,source=\(Bench.image),destination=/other @ sh -c 'head -1 /other/etc/passwd | cut -d: -f1'",
                "root")
        },
        Row("containers of hull ps", .hull, on: [.podman], machineOnly: true) { s in
            try await s.ok("run -d --name one @ sleep 1000")
            let id = try await s.ok("inspect -f {{.Id}} one")
            let hull = s.engine.runtime.path.dropLast("-runtime".count)
            try await s.host("\(hull) ps -a --no-trunc", has: String(id))
            let call = try await s.site.run("\(hull) rm -f \(id)".words)
            try s.expect(call.code != 0, call.line, "a refusal: an engine owns it", "\(call)")
        },
    ]

    /// containerd's own bare client, which sets up no network and no names.
    static let containerds: [Row] = [
        Row("ctr run has the command's output and code", .exitCodes, on: [.containerd], short: [.containerd]) { s in
            try await s.ok("run --rm @ one sh -c 'echo hello'", "hello")
            try await s.ends("run --rm @ two sh -c 'exit 7'", 7)
        },
        Row("ctr tasks exec", .exec, on: [.containerd], short: [.containerd]) { s in
            try await s.ok("run -d @ one sleep 1000")
            try await s.ok("tasks exec --exec-id e one echo executed", "executed")
            try await s.ends("tasks exec --exec-id f one sh -c 'exit 3'", 3)
        },
        Row("ctr tasks kill", .signals, on: [.containerd], short: [.containerd]) { s in
            try await s.ok("run -d @ one sleep 1000")
            try await s.ok("tasks kill -s 9 one")
            try await s.becomes("tasks ls", has: "STOPPED")
        },
        Row("ctr tasks ps", .top, on: [.containerd]) { s in
            try await s.ok("run -d @ one sleep 1000")
            try await s.ok("tasks ps one", has: "PID")
        },
        Row("ctr tasks pause and resume", .pause, on: [.containerd]) { s in
            try await s.ok("run -d @ one sleep 1000")
            try await s.ok("tasks pause one")
            try await s.ok("tasks ls", has: "PAUSED")
            try await s.ok("tasks resume one")
            try await s.ok("tasks ls", has: "RUNNING")
        },
        Row("ctr mounts and variables", .binds, on: [.containerd]) { s in
            _ = try s.file("in", "bound")
            try await s.ok(
                "run --rm --env A=b --mount type=bind,src=\(s.scratch),dst=/mnt,options=rbind:ro @ one sh -c 'cat /mnt/in; echo; echo $A'",
                "bound\nb")
        },
        Row("ctr metrics", .stats, on: [.containerd]) { s in
            try await s.ok("run -d @ one sleep 1000")
            try await s.ok("tasks metrics one", has: "memory.usage")
        },
    ]
}
