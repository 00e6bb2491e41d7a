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
