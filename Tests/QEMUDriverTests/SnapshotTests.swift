import CLinux
import Glibc
import LinuxSystem
import Machines
import Testing

@testable import QEMUDriver

@Suite struct GuestMemoryTests {
    @Test func whereTheMemoryIs() {
        let text = """
                          Block Name    PSize              Offset               Used              Total                HVA  RO\r
                              memory    4 KiB  0x0000000000000000 0x0000000010000000 0x0000000010000000 0x00007f5433e00000  rw\r
                             pc.bios    4 KiB  0x0000000010000000 0x0000000000020000 0x0000000000020000 0x00007f5489200000  rw\r

            """
        #expect(GuestMemory.address(in: text, size: 256 << 20) == 0x7f54_33e0_0000)
        #expect(GuestMemory.address(in: text, size: 512 << 20) == nil)
        #expect(GuestMemory.address(in: "memory 4 KiB 0x0 0x10000000 0x10000000 rw", size: 256 << 20) == nil)
        #expect(GuestMemory.address(in: "memory 4 KiB 0x0 0x10000000 0x10000000 0x7f5433e00001 rw", size: 256 << 20) == nil)
        #expect(GuestMemory.address(in: "", size: 256 << 20) == nil)
    }

    /// What changes between two copies is written, what does not is not, and what was never anything but zeros stays a hole.
    @Test(.enabled(if: Lab.canRun)) func aSecondCopyFindsWhatChanged() async throws {
        try await Lab.run { lab in
            let size = 4 << 20
            let file = SharedDescriptor(try openFile("\(lab.folder)/source", O_RDWR | O_CREAT))
            let copy = SharedDescriptor(try openFile("\(lab.folder)/copy", O_RDWR | O_CREAT))
            try checked("make longer", "a file") { ftruncate(file.raw, size) }
            func put(_ byte: UInt8, _ place: Int, _ count: Int) throws {
                let bytes = [UInt8](repeating: byte, count: count)
                try checked("write", "a file") { pwrite(file.raw, bytes, count, place) }
            }
            try put(1, 5000, 10000)
            try put(0, 1 << 20, 1 << 20)
            try put(2, size - 100, 100)
            var memory = GuestMemory(.file(file), size: UInt64(size), address: 0)
            try await memory.copy(to: copy) {}
            #expect(try readFile("\(lab.folder)/copy") == readFile("\(lab.folder)/source"))
            var status = stat()
            fstat(copy.raw, &status)
            #expect(status.st_blocks * 512 <= 8 * 4096)
            try put(3, 8192, 1)
            try put(0, 5000, 1000)
            try checked("make a hole in", "a file") { ftruncate(file.raw, size - 8192) }
            try checked("make longer", "a file") { ftruncate(file.raw, size) }
            try await memory.copy(to: copy) {}
            #expect(try readFile("\(lab.folder)/copy") == readFile("\(lab.folder)/source"))
        }
    }
}

/// A running machine saved, again and again.
@Suite(.serialized, .enabled(if: Lab.canRun, "no machine can be run here: \(Lab.obstacle ?? "")")) struct SnapshotTests {
    /// Cold and restored, on both boards: the saved one goes on, and what is made of it goes on where it was saved.
    @Test(arguments: [MachineSpec.Kind.microvm, .q35]) func itGoesOnAndSoDoesItsCopy(_ kind: MachineSpec.Kind) async throws {
        try await Lab.run { lab in
            try writeFile("\(lab.folder)/disk", [1], flags: O_WRONLY | O_CREAT)
            truncate("\(lab.folder)/disk", 1 << 20)
            let spec = try await lab.spec {
                $0.kind = kind
                $0.disks = [Disk(name: "own", path: "\(lab.folder)/disk", readOnly: false)]
            }
            var snapshots: [Snapshot] = []
            let counter = "n=0; while :; do n=$((n+1)); echo $n >/count.new; mv /count.new /count; usleep 10000; done"
            func save(_ machine: any VirtualMachine) async throws {
                let (memory, state) = ("\(lab.folder)/memory\(snapshots.count)", "\(lab.folder)/state\(snapshots.count)")
                let facts = try await TemplateTests.save(machine, memory, state)
                snapshots.append(Snapshot(memory: memory, state: state, facts: facts))
                try await machine.resume()
            }
            func count(_ shell: Shell) async throws -> Int { try #require(Int(try await shell.run("cat /count"))) }
            func goesOn(_ shell: Shell) async throws -> Int {
                let before = try await count(shell)
                _ = try await shell.run("usleep 200000")
                let after = try await count(shell)
                #expect(after > before)
                return after
            }
            let counted = try await lab.withShell(spec) { machine, shell in
                _ = try await shell.run("(\(counter)) >/dev/null 2>&1 & head -c 8m /dev/urandom >/kept; md5sum /kept >/sum")
                _ = try await goesOn(shell)
                try await save(machine)
                let saved = try await goesOn(shell)
                try await save(machine)
                #expect(try await goesOn(shell) > saved)
                return saved
            }
            // The older one still is what it was; and a machine made of the newer one can be saved itself.
            for index in 0...1 {
                try await TemplateTests.withClone(lab, spec, snapshots[index]) { (machine, shell) async throws -> Void in
                    #expect(try await shell.run("md5sum -c /sum") == "/kept: OK")
                    if index == 1 { #expect(try await count(shell) >= counted) }
                    #expect(try await shell.run("rm /kept; head -c 4m /dev/urandom >/mine; md5sum /mine >/sum2") == "")
                    try await save(machine)
                    _ = try await goesOn(shell)
                }
            }
            try await TemplateTests.withClone(lab, spec, snapshots[3]) { (machine, shell) async throws -> Void in
                #expect(try await shell.run("md5sum -c /sum2; ls /kept") == "[1] /mine: OK\nls: /kept: No such file or directory")
                #expect(try await goesOn(shell) >= counted)
            }
        }
    }

    /// What does not fit is refused with the reason, before anything of it runs.
    @Test func anotherHostIsRefused() async throws {
        try await Lab.run { lab in
            let (spec, snapshot) = try await TemplateTests.save(lab)
            for (fact, value, words) in [
                ("qemu", "9.2.1", "saved by QEMU 9.2.1"), ("board", "q35", "the board"), ("accelerator", "kvm", "accelerator"),
                ("tsc-khz", "1000", "time stamp counter"),
            ] {
                var other = snapshot
                other.facts[fact] = value
                do {
                    try await TemplateTests.withClone(lab, spec, other) { _, _ in Issue.record("it ran") }
                } catch {
                    #expect("\(error)".contains(words), "\(error)")
                }
            }
            // A memory file of another length is none of this machine's.
            truncate(snapshot.memory, 100 << 20)
            await #expect(throws: MachineError.self) { try await TemplateTests.withClone(lab, spec, snapshot) { _, _ in } }
        }
    }

    /// Only what changed, of a machine that booted, of one that was made of the parent, and of one that was made of changes; with a share, whose
    /// memory is a file, and without.
    @Test(arguments: [false, true]) func onlyWhatChanged(_ hasShare: Bool) async throws {
        if hasShare, !Lab.canShare { return }
        try await Lab.run { lab in
            try makeDirectories("\(lab.folder)/shown", mode: 0o755)
            let spec = try await lab.spec {
                if hasShare {
                    $0.share = Share(tag: "hull", entries: [ShareEntry(name: "shown", hostPath: "\(lab.folder)/shown")])
                }
            }
            var snapshots: [Snapshot] = []
            var number = 0
            func save(_ machine: any VirtualMachine) async throws {
                number += 1
                let (memory, state) = ("\(lab.folder)/memory\(number)", "\(lab.folder)/state\(number)")
                let facts = try await TemplateTests.save(machine, memory, state, over: snapshots.last)
                snapshots.append(
                    snapshots.last.map { Snapshot(memory: $0.memory, changes: $0.changes + [memory], state: state, facts: facts) }
                        ?? Snapshot(memory: memory, state: state, facts: facts))
                try await machine.resume()
            }
            /// A file for each save, and one that every save finds changed.
            func work(_ shell: Shell) async throws {
                _ = try await shell.run(
                    "head -c 6m /dev/urandom >/new\(number); md5sum /new* >/sum; head -c 2m /dev/urandom >/old; md5sum /old >>/sum"
                )
            }
            func check(_ shell: Shell) async throws {
                #expect(try await shell.run("md5sum -c /sum >/checked && echo whole || cat /checked") == "whole")
            }
            try await lab.withShell(spec) { (machine, shell) async throws -> Void in
                for _ in 0..<2 {
                    try await work(shell)
                    try await save(machine)
                }
                // Nothing of the first is new: the file of the page cache goes, and its pages are used again.
                _ = try await shell.run("rm /new0; head -c 6m /dev/zero >/zeros; rm /zeros; md5sum /new* /old >/sum")
                try await save(machine)
                try await check(shell)
            }
            try await TemplateTests.withClone(lab, spec, snapshots[0]) { (machine, shell) async throws -> Void in
                #expect(try await shell.run("echo /new*") == "/new0")
                try await check(shell)
                // Its memory is over the parent's own file.
                snapshots = [snapshots[0]]
                try await work(shell)
                try await save(machine)
            }
            try await TemplateTests.withClone(lab, spec, snapshots[1]) { (machine, shell) async throws -> Void in
                try await check(shell)
                try await work(shell)
                try await save(machine)
                try await check(shell)
            }
            for snapshot in snapshots {
                try await TemplateTests.withClone(lab, spec, snapshot) { (machine, shell) async throws -> Void in
                    try await check(shell)
                    _ = try await shell.run("head -c 6m /dev/urandom >/later")
                }
            }
            let whole = try FileIdentity(snapshots[0].memory).size
            for path in snapshots.last!.changes {
                let size = try FileIdentity(path).size
                print("changes of \(size >> 20) MiB in a memory of \(whole >> 20)")
                #expect(size > 8 << 20 && size < 48 << 20)
            }
        }
    }

    /// A share is written to by its server, which the copy must see; and the server goes on as well.
    @Test(.enabled(if: Lab.canShare)) func aMachineWithAShare() async throws {
        try await Lab.run { lab in
            try makeDirectories("\(lab.folder)/shown", mode: 0o755)
            let spec = try await lab.spec {
                $0.share = Share(tag: "hull", entries: [ShareEntry(name: "shown", hostPath: "\(lab.folder)/shown")])
            }
            let (memory, state) = ("\(lab.folder)/memory", "\(lab.folder)/state")
            let facts = try await lab.withShell(spec) { machine, shell in
                _ = try await shell.run("mkdir -p /s; mount -t virtiofs hull /s; head -c 3m /dev/urandom >/s/shown/big")
                _ = try await shell.run("md5sum /s/shown/big >/sum; exec 7>/s/shown/log; echo one >&7")
                _ = try await shell.run(
                    "(n=0; while [ $n -lt 200 ]; do echo $n; n=$((n+1)); usleep 20000; done >/s/shown/open) >/dev/null 2>&1 &")
                let facts = try await TemplateTests.save(machine, memory, state)
                try await machine.resume()
                #expect(try await shell.run("md5sum -c /sum && echo more >/s/shown/more") == "/s/shown/big: OK")
                return facts
            }
            let snapshot = Snapshot(memory: memory, state: state, facts: facts)
            try await TemplateTests.withClone(lab, spec, snapshot) { (machine, shell) async throws -> Void in
                #expect(try await shell.run("md5sum -c /sum && echo again >/s/shown/again") == "/s/shown/big: OK")
                #expect(try readText("\(lab.folder)/shown/again") == "again\n")
                let before = try readText("\(lab.folder)/shown/open").utf8.count
                _ = try await shell.run("usleep 300000")
                #expect(try readText("\(lab.folder)/shown/open").utf8.count > before)
            }
        }
    }
}
