import CLinux
import Glibc
import LinuxSystem
import Machines
import Testing

@testable import QEMUDriver

@Suite(.serialized) struct FirstBoot {
    init() { Loop.runInBackground() }
    @Test(arguments: [0, 1, 2]) @Loop func boots(_ n: Int) async throws {
        if n == 0 { _ = hull_unshare(CLONE_NEWNS); try mountFilesystem("none", "/", flags: UInt(MS_REC | MS_PRIVATE)) }
        let dir = "/tmp/mlab/m\(n)"
        try makeDirectories(dir)
        let spec = MachineSpec(
            id: "t\(n)", memoryBytes: 256 << 20, kernel: "/tmp/mlab/vmlinux",
            initramfs: n == 2 ? "/tmp/mlab/bb.cpio" : "/tmp/mlab/reboot.cpio",
            disks: [
                Disk(name: "one", path: "/tmp/mlab/d1", readOnly: true), Disk(name: "two", path: "/tmp/mlab/d2", readOnly: false),
            ],
            share: n == 2
                ? Share(
                    tag: "hull",
                    entries: [
                        ShareEntry(name: "0", hostPath: "/tmp/mlab/bb"),
                        ShareEntry(name: "1", hostPath: "/tmp/mlab/r.sh", isFile: true, readOnly: true),
                    ]) : nil,
            consoleLog: "\(dir)/console.log", confinement: Confinement(uidBase: 0x1000_0000))
        let start = ContinuousClock.now
        let exit = try await QEMU().withMachine(.boot(spec), in: MachineDirectory(dir)) { machine in
            print("running after", ContinuousClock.now - start)
            return await machine.wait()
        }
        print("ended after", ContinuousClock.now - start, exit)
    }
}
