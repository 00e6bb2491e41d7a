import Foundation
import Testing

extension IntegrationTests {
    /// Hosts that lack something, or whose disk is full: each in a mount namespace of its own.
    @Suite struct Hosts {
        let lab = Lab.shared

        /// Runs a shell script on a host that was changed by `change` first; `$hull` is the program, `$image` the image.
        private func host(_ change: String, _ script: String, root: String? = nil) throws -> Program.Output {
            let root = root ?? lab.root
            let whole = """
                set -e; \(change); set +e
                hull() { '\(lab.program)' --root '\(root)' --exec-root '\(lab.execRoot)' "$@"; }
                image='\(lab.image)'
                \(script)
                """
            return try Program(try lab.inside(["unshare", "--mount", "sh", "-c", whole])).finish(seconds: 60)
        }

        static let lacking: [(change: String, flags: String, says: [String])] = [
            ("mount -t tmpfs none /boot", "", ["no kernel was found in /boot", "install"]),
            ("mount -t tmpfs none /lib/modules", "", ["the modules of the kernel", "install"]),
            ("for q in /usr/bin/qemu-system-*; do mount --bind /dev/null $q; done", "", ["no QEMU was found", "install"]),
            ("export HULL_QEMU=/no/such/qemu", "", ["HULL_QEMU names /no/such/qemu"]),
            (
                "if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi", "--accel kvm",
                ["KVM was asked for", "leave --accel out"]
            ),
        ]

        @Test(arguments: lacking) func says(change: String, flags: String, sentences: [String]) throws {
            let output = try host(change, "hull run --rm --network none \(flags) $image true")
            #expect(output.code == 125 && output.text == "", "\(change): \(output)")
            for sentence in sentences { #expect(output.errors.contains(sentence), "\(change): \(output.errors)") }
            #expect(try lab.hull("ps", "-aq", "-f", "status=created").text == "")
        }

        /// Debian 12's own QEMU and its share server, as `make images` unpacks them.
        static let oldest = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(
            path: "../../.build/qemu-7.2/usr"
        ).standardizedFileURL.path

        @Test(.enabled(if: FileManager.default.fileExists(atPath: oldest), "scripts/fetch-qemu-7.2.sh found none"))
        func theOldestQEMU() throws {
            let old = "export HULL_QEMU=\(Self.oldest)/bin/qemu-system-x86_64 HULL_VIRTIOFSD=\(Self.oldest)/lib/qemu/virtiofsd"
            let folder = try lab.scratch("oldest")
            for machine in ["microvm", "q35"] {
                let output = try host(
                    old,
                    """
                    hull run -d --name oldest --machine \(machine) -p 8089:80 -v \(folder):/bound $image \\
                        sh -c 'echo kept >/bound/\(machine); while true; do echo answer | nc -l -p 80; done' >/dev/null
                    hull exec oldest sh -c 'until netstat -ltn | grep -q :80; do sleep 0.1; done; cat /bound/\(machine); exit 7'; echo "code $?"
                    busybox nc -w 5 127.0.0.1 8089
                    hull pause oldest >/dev/null && hull unpause oldest >/dev/null && hull exec oldest echo again
                    hull doctor 2>&1 | grep -o 'QEMU 7.2 cannot save a machine that has shares'
                    hull rm -f oldest
                    """)
                #expect(
                    output.text == "kept\ncode 7\nanswer\nagain\nQEMU 7.2 cannot save a machine that has shares\noldest\n",
                    "\(machine): \(output)")
                #expect(try lab.host("cat", "\(folder)/\(machine)").text == "kept\n")
            }
        }

        /// As the room grows, each step in turn finds the disk full: moving the image, its root image, the kernel, the run itself.
        @Test func fullDisks() throws {
            let folder = try lab.scratch("small")
            for megabytes in [1, 3, 6, 40] {
                let output = try host(
                    "mount -t tmpfs -o size=\(megabytes)m none \(folder)",
                    "hull run --rm --network none $image true; code=$?; hull ps -aq; find \(folder) -name '*.new*' -o -path '*ingest/*'; exit $code",
                    root: folder)
                #expect(output.code == 125 && output.text == "", "\(megabytes) MB: \(output)")
                #expect(output.errors.contains("no room"), "\(megabytes) MB: \(output.errors)")
            }
        }

        /// A container that writes more than the host has: an error inside, and all is said and gone all the same.
        @Test func aContainerFillsTheHostsDisk() throws {
            let folder = try lab.scratch("filled")
            let output = try host(
                "mount -t tmpfs -o size=160m none \(folder)",
                """
                hull run --name filler --network none $image sh -c 'dd if=/dev/zero of=/big bs=1M count=200; sync; echo ended'
                echo "code $?"
                hull ps -a --format '{{.Names}} {{.State}}'
                hull rm filler && hull ps -aq
                hull run --rm --network none $image echo again
                """, root: folder)
            #expect(output.text.contains("filler exited"), "\(output)")
            #expect(output.lines.last == "again", "\(output)")
        }
    }
}
