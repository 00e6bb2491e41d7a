extension Row {
    /// What one container sees of the host's files, and the host of the container's.
    static let storage: [Row] = [
        Row("a named volume outlives its containers", .volumes) { s in
            try await s.ok("volume create keep")
            try await s.ok("run --rm -v keep:/data @ sh -c 'echo kept >/data/file'")
            try await s.ok("run --rm -v keep:/data @ cat /data/file", "kept")
        },
        Row("a new volume begins with the image's files", .volumes) { s in
            try await s.ok("run --rm -v fresh:/etc @ sh -c 'cut -d: -f1 /etc/passwd | head -1'", "root")
            try await s.ok("volume rm fresh")
        },
        Row("an anonymous volume goes with --rm", .volumes) { s in
            let before = try await s.ok("volume ls -q")
            try await s.ok("run --rm -v /data @ sh -c 'echo x >/data/x'", "")
            try await s.ok("volume ls -q", before)
        },
        Row("--volumes-from shows another's", .volumes) { s in
            try await s.ok("run -d --name one -v /data @ sh -c 'echo x >/data/x; sleep 1000'")
            try await s.becomes("run --rm --volumes-from one @ cat /data/x", "x")
        },
        Row("a bind mount is the host's folder, both ways", .binds, short: [.docker, .podman]) { s in
            let file = try s.file("in", "from the host")
            try await s.ok("run -d --name one -v \(s.scratch):/mnt @ sleep 1000")
            try await s.ok("exec one cat /mnt/in", "from the host")
            try await s.ok("exec one sh -c 'echo back >/mnt/out'")
            try await s.host("cat \(s.scratch)/out", "back")
            try await s.host("sh -c 'echo later >\(file)'")
            try await s.ok("exec one cat /mnt/in", "later")
        },
        Row("a read-only bind mount refuses", .binds) { s in
            try await s.ends("run --rm -v \(s.scratch):/mnt:ro @ touch /mnt/x", 1, says: "Read-only file system")
        },
        Row("owner, mode and links are the host's", .binds) { s in
            try await s.ok(
                "run --rm -v \(s.scratch):/mnt @ sh -c 'cd /mnt; touch f; chown 1000:29 f; chmod 4751 f; ln -s f l; ln f h; mkfifo p'"
            )
            try await s.shell(
                "cd $S; stat -c '%n %u %g %a %h %F' f l h p | cat",
                "f 1000 29 4751 2 regular empty file\nl 0 0 777 1 symbolic link\nh 1000 29 4751 2 regular empty file\np 0 0 644 1 fifo"
            )
        },
        Row("mounts inside the folder are there too", .binds) { s in
            try await s.shell("mkdir $S/sub; mount -t tmpfs tmpfs $S/sub; echo deep >$S/sub/file")
            try await s.ok("run --rm -v \(s.scratch):/mnt @ cat /mnt/sub/file", "deep")
            try await s.shell("umount $S/sub")
        },
        Row("a mount that comes later follows with rslave", .propagation) { s in
            try await s.shell("mkdir $S/d; mount --bind $S/d $S/d; mount --make-shared $S/d; mkdir $S/d/sub")
            try await s.ok("run -d --name one -v \(s.scratch)/d:/mnt:rslave @ sleep 1000")
            try await s.shell("mount -t tmpfs tmpfs $S/d/sub; echo late >$S/d/sub/file")
            do { try await s.becomes("exec one cat /mnt/sub/file", "late", seconds: 5) } catch {
                try await s.shell("umount -l $S/d/sub $S/d")
                throw error
            }
            try await s.shell("umount -l $S/d/sub $S/d")
        },
        Row("--tmpfs has its size and mode", .tmpfs) { s in
            try await s.ok(
                "run --rm --tmpfs /t:size=4m,mode=1750 @ sh -c 'df -k /t | tail -1 | awk \"{print \\$2}\"; stat -c %a /t; grep -c \" /t tmpfs\" /proc/mounts'",
                "4096\n1750\n1")
        },
        Row("the engine's files are mounted", .files, short: [.docker]) { s in
            try await s.ok(
                "run --rm --hostname box --add-host other:10.1.2.3 --dns 10.9.9.9 @ sh -c 'echo $(cat /etc/hostname); hostname; grep other /etc/hosts; grep nameserver /etc/resolv.conf'",
                "box\nbox\n10.1.2.3\tother\nnameserver 10.9.9.9")
        },
        Row("a single file that is rewritten in place is seen", .files) { s in
            let file = try s.file("one", "first")
            _ = try s.file("two", "secret")
            try await s.ok("run -d --name one -v \(file):/one @ sleep 1000")
            try await s.ok("exec one cat /one", "first")
            try await s.host("sh -c 'echo second >\(file)'")
            try await s.becomes("exec one cat /one", "second", seconds: 3)
            try await s.ok("exec one sh -c 'echo third >/one'")
            try await s.host("cat \(file)", "third")
            try await s.ok("exec one sh -c 'find / -xdev -name two 2>/dev/null'", "")
        },
        Row("a Unix socket of the host answers", .sockets) { s in
            let server =
                "socat UNIX-LISTEN:$S/sock,fork EXEC:'tr a-z A-Z' & echo $! >$S/pid; until test -S $S/sock; do sleep 0.1; done"
            try await s.shell("(\(server)) >/dev/null 2>&1")
            let client = try s.file(
                "ask.pl",
                """
                use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un($ARGV[0])) or die "connect: $!";
                syswrite S, "hello\\n"; shutdown S, 1; print while <S>;

                """)
            let line = "run --rm -v \(s.scratch)/sock:/sock -v \(client):/ask.pl @ perl /ask.pl /sock"
            do { try await s.ok(line, "HELLO") } catch {
                try await s.shell("kill $(cat $S/pid)")
                throw error
            }
            try await s.shell("kill $(cat $S/pid)")
        },
        Row("many connections to a Unix socket at once", .sockets) { s in
            // Each begins with the server's word and gets back what it says, 200 kB of it.
            let server =
                "socat UNIX-LISTEN:$S/sock,fork SYSTEM:'echo welcome; cat' & echo $! >$S/pid; until test -S $S/sock; do sleep 0.1; done"
            try await s.shell("(\(server)) >/dev/null 2>&1")
            let client = try s.file(
                "ask.pl",
                """
                use Socket; $l = "x" x 99 . "\\n";
                for $i (1..20) { next if fork; socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un("/sock")) or die "connect: $!";
                  die "no welcome" if <S> ne "welcome\\n";
                  if (!fork) { syswrite S, $l for 1..2000; shutdown S, 1; exit }
                  $n = 0; while (<S>) { $n += length } print "$n\\n"; exit }
                1 while wait > 0;

                """)
            let line = "run --rm -v \(s.scratch)/sock:/sock -v \(client):/ask.pl @ perl /ask.pl"
            do {
                let text = try await s.ok(line)
                let good = text.split(separator: "\n").count { $0 == "200000" }
                try s.expect(good == 20, line, "20 times 200000", text)
            } catch {
                try await s.shell("kill $(cat $S/pid)")
                throw error
            }
            try await s.shell("kill $(cat $S/pid)")
        },
        Row("who connects to a Unix socket is who it is", .sockets) { s in
            let server = try s.file(
                "who.pl",
                """
                use Socket; socket(L, AF_UNIX, SOCK_STREAM, 0); bind(L, sockaddr_un($ARGV[0])); chmod 0666, $ARGV[0]; listen(L, 5);
                while (accept(S, L)) { ($p, $u, $g) = unpack "iII", getsockopt(S, 1, 17); syswrite S, "$u $g\\n"; close S }

                """)
            let client = try s.file(
                "ask.pl",
                "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un('/sock')) or die $!; print while <S>;\n")
            try await s.shell(
                "(perl \(server) $S/sock & echo $! >$S/pid; until test -S $S/sock; do sleep 0.1; done) >/dev/null 2>&1")
            let line = "run --rm -u 1234:56 -v \(s.scratch)/sock:/sock -v \(client):/ask.pl @ perl /ask.pl"
            do { try await s.ok(line, "1234 56") } catch {
                try await s.shell("kill $(cat $S/pid)")
                throw error
            }
            try await s.shell("kill $(cat $S/pid)")
        },
        Row("a Unix socket for messages takes them", .sockets) { s in
            try await s.shell(
                "(socat -u UNIX-RECV:$S/log CREATE:$S/got & echo $! >$S/pid; until test -S $S/log; do sleep 0.1; done) >/dev/null 2>&1"
            )
            let client = try s.file(
                "say.pl", "use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0); send(S, 'logged', 0, sockaddr_un('/log')) or die $!;\n")
            let line = "run --rm -v \(s.scratch)/log:/log -v \(client):/say.pl @ sh -c 'perl /say.pl && sleep 1'"
            do {
                try await s.ok(line, "")
                try await s.host("cat \(s.scratch)/got", "logged")
            } catch {
                try await s.shell("kill $(cat $S/pid)")
                throw error
            }
            try await s.shell("kill $(cat $S/pid)")
        },
        Row("a Unix socket that keeps messages apart is refused", .sockets, machineOnly: true) { s in
            try await s.shell(
                "(socat UNIX-LISTEN:$S/seq,type=5,fork EXEC:true & echo $! >$S/pid; until test -S $S/seq; do sleep 0.1; done) >/dev/null 2>&1"
            )
            do { try await s.fails("run --rm -v \(s.scratch)/seq:/seq @ true", says: "SOCK_SEQPACKET") } catch {
                try await s.shell("kill $(cat $S/pid)")
                throw error
            }
            try await s.shell("kill $(cat $S/pid)")
        },
        Row("a device under another name", .devices) { s in
            try await s.ok(
                "run --rm --device /dev/zero:/dev/nought:r @ sh -c 'head -c 4 /dev/nought | xxd -p; test -c /dev/nought && echo c'",
                "00000000\nc")
        },
        Row("other devices may be made and not used, but by rule", .devices, short: [.docker]) { s in
            let script =
                "mknod /dev/k c 1 11 && echo made; echo x >/dev/k && echo written; head -c 1 /dev/k >/dev/null || echo refused"
            try await s.ok("run --rm --cap-add MKNOD @ sh -c '\(script)'", "made\nrefused")
            try await s.ok(
                "run --rm --cap-add MKNOD --device-cgroup-rule 'c 1:11 w' @ sh -c '\(script)'", "made\nwritten\nrefused")
            try await s.ok(
                "run --rm --cap-add MKNOD --device-cgroup-rule 'c *:* w' @ sh -c '\(script); echo x >/dev/null && echo usual'",
                "made\nwritten\nrefused\nusual")
        },
        Row("--device says how it may be opened", .devices) { s in
            let script = "echo x >/dev/k && echo written; head -c 1 /dev/k >/dev/null || echo refused"
            try await s.ok("run --rm --device /dev/kmsg:/dev/k:w @ sh -c '\(script)'", "written\nrefused")
        },
        Row("only the usual devices are there", .devices) { s in
            try await s.ok(
                "run --rm @ sh -c 'cd /dev; for d in null zero full random urandom tty ptmx fd stdin stdout stderr; do test -e $d || echo no $d; done; for d in vda sda mem kvm; do test ! -e $d || echo $d; done'",
                "")
        },
        Row("--shm-size is the size", .shm, short: [.docker]) { s in
            try await s.ok(
                "run --rm --shm-size 8m @ sh -c 'df -k /dev/shm | tail -1 | awk \"{print \\$2}\"; echo x >/dev/shm/x && cat /dev/shm/x'",
                "8192\nx")
        },
        Row("message queues have their file system", .mqueue) { s in
            try await s.ok(
                "run --rm @ sh -c 'touch /dev/mqueue/q && ls /dev/mqueue; grep -c \"/dev/mqueue mqueue\" /proc/mounts'", "q\n1")
        },
        Row("a change is told to who watches", .inotify) { s in
            let watch = try s.file(
                "watch.pl",
                """
                $| = 1; $n = syscall(294, 0); $p = "/mnt"; syscall(254, $n, $p, 0x100) >= 0 or die "watch: $!";
                print "watching\\n"; open(N, "<&=", $n); sysread(N, $b, 4096); print "told of ", unpack("x16Z*", $b), "\\n";

                """)
            try await s.host("mkdir \(s.scratch)/d")
            try await s.ok("run -d --name one -v \(watch):/watch.pl -v \(s.scratch)/d:/mnt @ timeout 20 perl /watch.pl")
            try await s.becomes("logs one", "watching")
            try await s.ok("exec one touch /mnt/new")
            try await s.becomes("logs one", "watching\ntold of new", seconds: 5)
        },
        Row("cp goes both ways while it runs", .copy, short: [.docker]) { s in
            let file = try s.file("in", "copied")
            try await s.ok("run -d --name one @ sh -c 'echo inner >/inner; sleep 1000'")
            try await s.ok("cp \(file) one:/outer")
            try await s.ok("exec one cat /outer", "copied")
            try await s.ok("cp one:/inner \(s.scratch)/back")
            try await s.host("cat \(s.scratch)/back", "inner")
        },
        Row("cp reaches a container that has ended", .copy) { s in
            try await s.ok("run --name one @ sh -c 'mkdir /d; echo last >/d/file'")
            try await s.ok("cp one:/d \(s.scratch)/d")
            try await s.host("cat \(s.scratch)/d/file", "last")
        },
        Row("cp into a volume of a running one", .copy) { s in
            let file = try s.file("in", "copied")
            try await s.ok("run -d --name one -v /data @ sleep 1000")
            try await s.ok("cp \(file) one:/data/in")
            try await s.ok("exec one cat /data/in", "copied")
        },
        Row("diff names what changed", .diff, short: [.docker]) { s in
            try await s.ok("run --name one @ sh -c 'echo x >/new; rm /etc/group; echo y >>/etc/passwd'")
            let text = try await s.ok("diff one")
            for line in ["A /new", "D /etc/group", "C /etc/passwd"] {
                try s.expect(text.split(separator: "\n").contains(Substring(line)), "diff one", line, text)
            }
        },
        Row("commit makes an image of it", .commit) { s in
            try await s.ok("run -d --name one @ sh -c 'echo committed >/file; sleep 1000'")
            try await s.becomes("exec one cat /file", "committed")
            try await s.ok("commit one localhost/committed")
            try await s.ok("run --rm localhost/committed cat /file", "committed")
            try await s.ok("rmi -f localhost/committed")
        },
        Row("export has the files", .export) { s in
            try await s.ok("run --name one @ sh -c 'echo exported >/file'")
            try await s.ok("export -o \(s.scratch)/a.tar one")
            try await s.host("tar -xOf \(s.scratch)/a.tar file", "exported")
        },
    ]
}
