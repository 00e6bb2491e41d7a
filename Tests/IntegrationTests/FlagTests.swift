import Foundation
import Testing

extension IntegrationTests {
    /// Flags of `run`, read back inside.
    @Suite struct Flags {
        let lab = Lab.shared

        /// What a script shows under some flags.
        struct Case: CustomTestStringConvertible, Sendable {
            var flags: [String]
            var script: String
            var output: String
            var code: Int32 = 0
            var testDescription: String { flags.joined(separator: " ") }
            init(_ flags: [String], _ script: String, _ output: String, code: Int32 = 0) {
                self.flags = flags
                self.script = script
                self.output = output
                self.code = code
            }
        }

        static let cases = [
            Case(["-u", "app"], "id -u; id -g; id -G", "1000\n1000\n1000 29 44\n"),
            Case(["-u", "7:8"], "id -u; id -g; id -G", "7\n8\n8\n"),
            Case(["-u", "app:audio", "--group-add", "video", "--group-add", "99"], "id -g; id -G", "29\n29 44 99\n"),
            Case(["-u", "7:8", "-w", "/made/for/it"], "pwd; stat -c %u /made", "/made/for/it\n0\n"),
            Case(
                ["--read-only", "--tmpfs", "/scratch:size=1m,mode=700"],
                "touch /x 2>/dev/null || echo read-only; stat -c %a /scratch; df -k /scratch | tail -n 1 | awk '{print $2}'",
                "read-only\n700\n1024\n"),
            Case(["--shm-size", "2m"], "df -k /dev/shm | tail -n 1 | awk '{print $2}'", "2048\n"),
            Case(["--ulimit", "nofile=123:456", "--ulimit", "core=0"], "ulimit -n; ulimit -Hn; ulimit -c", "123\n456\n0\n"),
            Case(
                ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4321"],
                "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", "1\n4321\n"),
            Case(["--cap-drop", "ALL"], "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n"),
            Case(
                ["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"], "grep CapEff /proc/self/status", "CapEff:\t0000000000001000\n"),
            Case(["--cap-add", "SYS_ADMIN"], "grep CapBnd /proc/self/status", "CapBnd:\t00000000a82425fb\n"),
            Case(
                ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"],
                "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status", "NoNewPrivs:\t1\nSeccomp:\t0\n"),
            Case(
                ["--privileged"],
                "grep -E '^(CapEff|Seccomp):' /proc/self/status | cut -c 1-18; mount -t tmpfs x /tmp && echo mounts; touch /sys/x 2>&1 | grep -c Read-only",
                "CapEff:\t000001ffff\nSeccomp:\t0\nmounts\n0\n"),
            Case(["-h", "somewhere.example"], "hostname; cat /etc/hostname", "somewhere.example\nsomewhere.example\n"),
            Case(["--add-host", "other:10.1.2.3"], "grep other /etc/hosts | awk '{print $1, $2}'", "10.1.2.3 other\n"),
            Case(["--cpus", "2"], "nproc", "2\n"),
            Case(["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj", "321\n"),
            Case(
                ["--init"],
                "tr '\\0' ' ' </proc/1/cmdline | grep -c 'sh -c'; cat /proc/self/stat | cut -d ' ' -f 4 | grep -vx 1 | wc -l",
                "0\n1\n"),
        ]

        @Test(arguments: cases) func seenInside(_ it: Case) throws {
            let output = try lab.script(it.flags, it.script)
            #expect(output.text == it.output, "\(output.errors)")
        }

        /// What a container without flags looks like; one machine for all.
        @Test(arguments: [
            Case([], "grep CapEff /proc/self/status", "CapEff:\t00000000a80425fb\n"),
            Case([], "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status", "NoNewPrivs:\t0\nSeccomp:\t2\n"),
            Case([], "unshare -U true 2>/dev/null || echo refused", "refused\n"),
            Case([], "mount -t tmpfs x /tmp 2>/dev/null || echo refused", "refused\n"),
            Case([], "head -c 1 /proc/kcore | wc -c; ls /sys/firmware | wc -l", "0\n0\n"),
            Case([], "(echo 1 >/proc/sys/kernel/panic) 2>/dev/null || echo refused", "refused\n"),
            Case([], "touch /sys/x 2>/dev/null || echo refused", "refused\n"),
            Case([], "cat /proc/1/comm; set -- /proc/[0-9]*; echo $#", "sleep\n2\n"),
            Case(
                [], "stat -c '%a %n' /dev/null /dev/shm /tmp; ls -l /dev/ptmx | grep -c pts/ptmx",
                "666 /dev/null\n1777 /dev/shm\n1777 /tmp\n1\n"),
            Case([], "echo $IMAGE; echo $HOME; pwd", "busybox\n/root\n/\n"),
            Case([], "ip -o link | wc -l", "1\n"),
            Case([], "awk '$2 == \"/\" {print $3}' /proc/mounts; touch /x && echo writable", "overlay\nwritable\n"),
        ]) func byDefault(_ it: Case) throws {
            let output = try lab.hull("exec", lab.box(), "sh", "-c", it.script)
            #expect(output.text == it.output, "\(output.errors)")
        }

        @Test func environment() throws {
            let file = "\(try lab.scratch("environment"))/list"
            try lab.write("# a comment\nFROM_FILE=one two\n\nTAKEN\nBOTH=file\n", to: file)
            let output = try lab.hull(
                [
                    "run", "--rm", "--network", "none", "--env-file", file, "-e", "A=1", "--env", "BOTH=flag", "-e", "MINE", "-e",
                    "NONE",
                    "-e", "IMAGE=changed", lab.image, "env",
                ], environment: ["MINE": "yes", "TAKEN": "too"])
            let seen = Set(output.lines)
            for entry in ["FROM_FILE=one two", "TAKEN=too", "BOTH=flag", "A=1", "MINE=yes", "IMAGE=changed"] {
                #expect(seen.contains(entry), "\(entry)")
            }
            #expect(!output.text.contains("NONE"))
        }

        @Test func entrypoint() throws {
            let output = try lab.hull("run", "--rm", "--network", "none", "--entrypoint", "echo", lab.image, "a", "b")
            #expect(output.text == "a b\n", "\(output.errors)")
        }

        @Test func unknownUser() throws {
            let output = try lab.script(["-u", "nobody-here"], "true")
            #expect(output.code == 125)
            #expect(output.errors.contains("nobody-here"), "\(output.errors)")
            #expect(try lab.hull("exec", "-u", "nobody-here", lab.box(), "true").code != 0)
        }

        @Test func memoryIsBounded() throws {
            let seen = try lab.script(["--memory", "128m"], "free -m | awk '/Mem/ {print $2}'; cat /sys/fs/cgroup/memory.max")
            let total = try #require(Int(seen.lines[0]))
            #expect((100...224).contains(total))
            #expect(seen.lines[1] == "134217728")
            let output = try lab.hull(
                "run", "--name", "hungry", "--network", "none", "--memory", "64m", lab.image, "tail", "/dev/zero")
            #expect(output.code == 137, "\(output.errors)")
            #expect(try lab.state("hungry")["OOMKilled"] as? Bool == true)
            try lab.good("rm", "hungry")
        }

        @Test func aForkBombStaysInside() throws {
            try lab.good("run", "-d", "--name", "bomb", "--network", "none", "--pids-limit", "64", lab.image, "sleep", "infinity")
            // What the pids limit stops says so; the bomb burns on until the container ends.
            _ = try lab.hull("exec", "-d", "bomb", "sh", "-c", "b() { b | b & }; b 2>/dev/null")
            let full = try lab.start("exec", "bomb", "sh", "-c", "while ! (true) 2>/dev/null; do :; done; echo forked")
            _ = full
            #expect(try lab.good("ps", "--filter", "name=bomb", "--format", "{{.State}}").text == "running\n")
            try lab.good("kill", "bomb")
            #expect(try lab.good("wait", "bomb").text == "137\n")
            try lab.good("rm", "bomb")
        }
    }
}
