import Foundation
import Testing

extension IntegrationTests {
    /// Bind mounts, volumes, plain root filesystems.
    @Suite struct Mounts {
        let lab = Lab.shared

        @Test func bindMounts() throws {
            let folder = try lab.scratch("binds")
            for name in ["rw", "ro"] { try lab.write("from the host", to: "\(lab.scratch("binds/\(name)"))/file") }
            try lab.write("one file\n", to: "\(folder)/single")
            try lab.good(
                "run", "-d", "--name", "binder", "--network", "none", "--privileged", "-v", "\(folder)/rw:/rw", "-v",
                "\(folder)/ro:/ro:ro",
                "-v", "\(folder)/single:/etc/single", "-v", "\(folder)/single:/etc/single-ro:ro", "-v",
                "\(folder)/missing/deep:/missing",
                "--mount", "type=tmpfs,destination=/memory,tmpfs-size=1m", lab.image, "sleep", "infinity")
            defer { _ = try? lab.hull("rm", "-f", "binder") }  // the suite's end looks for what is left
            let inside = { (script: String) in try lab.hull("exec", "binder", "sh", "-c", script) }
            #expect(try inside("cat /rw/file /ro/file").text == "from the hostfrom the host")
            #expect(
                try inside("echo back >/rw/new; chown 12:34 /rw/new; mv /rw/file /rw/moved; mkdir /rw/sub; ln /rw/new /rw/hard")
                    .code == 0)
            #expect(try lab.read("\(folder)/rw/new") == "back\n")
            let status = try FileManager.default.attributesOfItem(atPath: "\(folder)/rw/new")
            #expect(
                status[.ownerAccountID] as? Int == 12 && status[.groupOwnerAccountID] as? Int == 34
                    && status[.referenceCount] as? Int == 2)
            #expect(!FileManager.default.fileExists(atPath: "\(folder)/rw/file"))
            // Read-only holds on the host, whatever the guest does to its mounts.
            #expect(try inside("touch /ro/x").errors.contains("Read-only"))
            #expect(try inside("mount -o remount,rw /ro; mount -o remount,rw,bind /ro; echo x >/ro/file; touch /ro/x").code != 0)
            #expect(try lab.read("\(folder)/ro/file") == "from the host")
            #expect(!FileManager.default.fileExists(atPath: "\(folder)/ro/x"))
            #expect(try inside("cat /etc/single; echo more >>/etc/single; echo no >>/etc/single-ro").errors.contains("Read-only"))
            #expect(try lab.read("\(folder)/single") == "one file\nmore\n")
            #expect(try inside("touch /missing/made; df -k /memory | awk 'END {print $2}'").word == "1024")
            #expect(FileManager.default.fileExists(atPath: "\(folder)/missing/deep/made"))
            // Nothing of the host beside it is in reach.
            #expect(try inside("ls /ro/../ | grep -c single; ls /share 2>/dev/null").text == "0\n")
        }

        /// An open finds what the host has in the file by then, whatever the guest's kernel keeps of it (kernel/patches).
        @Test func whatTheHostChangesIsThereAtTheNextOpen() throws {
            let folder = try lab.scratch("changes")
            func host(_ script: String) throws {
                let done = try Program(["sh", "-ec", "cd \(folder); \(script)"]).finish()
                try #require(done.code == 0, "\(done.errors)")
            }
            // Of the same length and, by its modification time, long settled.
            try host("printf one >file; touch -d 2020-01-01 file")
            try lab.good(
                "run", "-d", "--name", "looker", "--network", "none", "-v", "\(folder):/x", lab.image, "sleep", "infinity")
            defer { _ = try? lab.hull("rm", "-f", "looker") }  // the suite's end looks for what is left
            let inside = { (script: String) in try lab.hull("exec", "looker", "sh", "-c", script).text }
            #expect(try inside("sleep 3; cat /x/file; cat /x/file; cat /x/file") == "oneoneone")
            try host("printf two >file; touch -d 2020-01-01 file")
            #expect(try inside("cat /x/file; cat /x/file") == "twotwo")
            try host("printf six | dd of=file conv=notrunc status=none; touch -d 2020-01-01 file")
            #expect(try inside("cat /x/file; printf own >/x/file; cat /x/file; cat /x/file") == "sixownown")
            try host("test $(cat file) = own; printf new >next; touch -d 2020-01-01 next; mv next file")
            // Names are kept for a second.
            #expect(try inside("sleep 1.2; cat /x/file; cat /x/file") == "newnew")
        }

        /// Nothing that was written is in the guest alone when a container has ended, though nobody asked its kernel to write it.
        @Test(arguments: [["--rm"], ["--rm", "--no-template"], ["--name", "mapped"]]) func mappedFiles(_ flags: [String]) throws {
            let folder = try lab.scratch("mapped")
            try lab.compile("mapped", to: "\(folder)/mapped")
            defer { _ = try? lab.hull("rm", "-f", "mapped") }  // the suite's end looks for what is left
            let output = try lab.hull(
                ["run", "--network", "none"] + flags + ["-v", "\(folder):/x", lab.image, "/x/mapped", "/x/data"])
            #expect(output.code == 0, "\(output.errors)")
            for (name, letter) in [("data", "p"), ("data.child", "c")] {
                let content = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)"))
                #expect(content.count == 8 << 20 && content.allSatisfy { $0 == UInt8(ascii: Unicode.Scalar(letter)!) }, "\(name)")
            }
            try FileManager.default.removeItem(atPath: folder)
        }

        /// A socket among the mounts is no share: the machine has none.
        @Test func unixSockets() throws {
            let folder = try lab.scratch("sockets")
            try lab.compile("sockets", to: "\(folder)/ask")
            let script = """
                socat UNIX-LISTEN:\(folder)/stream,fork,mode=666 EXEC:'tr a-z A-Z' & servers=$!
                socat -u UNIX-RECV:\(folder)/log CREATE:\(folder)/got & servers="$servers $!"
                until test -S \(folder)/stream && test -S \(folder)/log; do sleep 0.1; done
                "$@"; code=$?; kill $servers; exit $code
                """
            let inner = """
                stat -c %F:%a /run/stream; /ask /run/stream stream words; /ask /run/stream stream again; /ask /run/log message logged; sleep 0.5
                """
            let verb = try lab.line([
                "run", "--rm", "--network", "none", "-v", "\(folder)/stream:/run/stream", "-v", "\(folder)/log:/run/log", "-v",
                "\(folder)/ask:/ask:ro", lab.image, "sh", "-c", inner,
            ])
            let output = try Program(["sh", "-c", script, "sh"] + verb).finish(seconds: 120)
            #expect(output.code == 0 && output.text == "socket:666\nWORDSAGAIN", "\(output.text) \(output.errors)")
            #expect(try lab.read("\(folder)/got") == "logged")
        }

        @Test func mountsBelowABind() throws {
            let folder = try lab.scratch("below")
            // In a mount namespace of its own, which goes with its shell: another filesystem, and one whose mounts map no owners.
            let script = """
                set -e; mkdir -p \(folder)/memory \(folder)/joined \(folder)/parts
                mount -t tmpfs none \(folder)/memory; echo secret >\(folder)/memory/file; chmod 600 \(folder)/memory/file
                mount -t tmpfs none \(folder)/parts; mkdir \(folder)/parts/a \(folder)/parts/b \(folder)/parts/c
                mount -t overlay overlay -o lowerdir=\(folder)/parts/a,upperdir=\(folder)/parts/b,workdir=\(folder)/parts/c \(folder)/joined
                "$@"
                echo "host: $(stat -c %u:%g:%a \(folder)/joined/made) $(ls \(folder)/memory)"
                """
            let inner = """
                cat /x/memory/file; echo more >/x/joined/made; chown 12:34 /x/joined/made; chmod 640 /x/joined/made
                mount -o remount,rw,bind /y; touch /y/memory/no /y/joined/no; head -c 4 /host/proc/meminfo; cat /host/sys/kernel/mm/ksm/run
                echo 1 >/host/sys/kernel/mm/ksm/run; ls /x/memory
                """
            let verb = try lab.line([
                "run", "--rm", "--network", "none", "--privileged", "-v", "\(folder):/x", "-v", "\(folder):/y:ro", "-v",
                "/proc:/host/proc",
                "-v", "/sys:/host/sys", lab.image, "sh", "-c", inner,
            ])
            let output = try Program(["unshare", "--mount", "--", "sh", "-c", script, "sh"] + verb).finish(seconds: 60)
            #expect(
                output.lines.first == "secret" && output.lines.last == "host: 12:34:640 file", "\(output.text) \(output.errors)")
            #expect(output.text.contains("MemT") && output.text.contains("\nfile\n"))
            #expect(output.errors.components(separatedBy: "Read-only file system").count == 4, "\(output.errors)")
        }

        @Test func theWholeHost() throws {
            let folder = try lab.scratch("whole")
            let output = try lab.script(
                ["-v", "/:/host"],
                "cat /host/etc/debian_version; ls /host/proc | wc -l; echo made >/host\(folder)/made; stat -c %F /host/dev/null")
            #expect(output.code == 0, "\(output.errors)")
            #expect(output.text == "\(try lab.read("/etc/debian_version"))0\ncharacter special file\n")
            #expect(try lab.read("\(folder)/made") == "made\n")
            let warnings = output.errors.split(separator: "\n").filter { $0.contains("warning: not shown in the container") }
            #expect(warnings.count == 1 && warnings[0].contains("/proc"), "\(output.errors)")
        }

        @Test func missingSourceOfMount() throws {
            let output = try lab.script(["--mount", "type=bind,source=/no/such/source,destination=/x"], "true")
            #expect(output.code == 125 && output.errors.contains("/no/such/source"), "\(output.errors)")
        }

        @Test func volumes() throws {
            let first = try lab.script(["-v", "kept:/home"], "ls /home; stat -c %u:%g /home/app; echo data >/home/app/file")
            #expect(first.text == "app\n1000:1000\n", "\(first.errors)")
            #expect(
                try lab.script(
                    ["--mount", "type=volume,source=kept,destination=/elsewhere,readonly"],
                    "cat /elsewhere/app/file; touch /elsewhere/x 2>&1 | grep -c Read-only"
                ).text == "data\n1\n")
            #expect(try lab.good("volume", "ls", "-q").lines.contains("kept"))
            try lab.good("create", "--name", "holder", "--network", "none", "-v", "kept:/x", lab.image, "true")
            let busy = try lab.hull("volume", "rm", "kept")
            #expect(busy.code != 0 && busy.errors.contains("holder"), "\(busy.errors)")
            try lab.good("rm", "-v", "holder")
            // A named volume outlives its containers.
            #expect(try lab.good("volume", "ls", "-q").lines.contains("kept"))
            try lab.good("volume", "rm", "kept")
            #expect(try !lab.good("volume", "ls", "-q").lines.contains("kept"))
        }

        @Test func anonymousVolumesStayUntilAsked() throws {
            let before = Set(try lab.good("volume", "ls", "-q").lines)
            try lab.good(
                "run", "--name", "anonymous", "--network", "none", "-v", "/data", lab.image, "sh", "-c", "echo kept >/data/x")
            let mine = Set(try lab.good("volume", "ls", "-q").lines).subtracting(before)
            #expect(mine.count == 1)
            try lab.good("rm", "anonymous")
            #expect(Set(try lab.good("volume", "ls", "-q").lines).isSuperset(of: mine))
            for name in mine { try lab.good("volume", "rm", name) }
        }

        @Test func plainRootFilesystem() throws {
            let folder = try lab.scratch("plain")
            try lab.host(
                "sh", "-c",
                "mkdir -p \(folder)/bin \(folder)/etc \(folder)/proc && cp /bin/busybox \(folder)/bin/ && ln -s busybox \(folder)/bin/sh"
            )
            let output = try lab.hull(
                "run", "--rm", "--network", "none", "rootfs:\(folder)", "sh", "-c",
                "echo made >/out; busybox mount | busybox grep -c ' / '; echo $PATH")
            #expect(output.code == 0, "\(output.errors)")
            #expect(output.lines.first == "1")
            #expect(try lab.read("\(folder)/out") == "made\n")
            let missing = try lab.hull("run", "--rm", "--network", "none", "rootfs:/no/such", "true")
            #expect(missing.code == 125 && missing.errors.contains("/no/such"))
        }
    }
}
