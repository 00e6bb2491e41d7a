import CLinux
import Glibc
import LinuxSystem
import Machines
import Testing

@testable import Kernels
@testable import QEMUDriver

/// Machines that really run.
@Suite(.serialized, .enabled(if: Lab.canRun, "no machine can be run here: \(Lab.obstacle ?? "")")) struct MachineTests {
    @Test(arguments: [MachineSpec.Kind.microvm, .q35]) func bootsWithItsDisks(_ kind: MachineSpec.Kind) async throws {
        try await Lab.run { lab in
            var disks: [Disk] = []
            for (index, name) in ["image", "writable", "modules"].enumerated() {
                let path = "\(lab.folder)/\(name)"
                try writeFile(path, Array("this is \(name)\n".utf8), flags: O_WRONLY | O_CREAT)
                truncate(path, (index + 1) << 20)
                disks.append(Disk(name: name, path: path, readOnly: name != "writable"))
            }
            let spec = try await lab.spec {
                $0.kind = kind
                $0.disks = disks
                $0.vcpus = 2
            }
            try await lab.withShell(spec) { machine, shell in
                for disk in disks {
                    let place = try #require(machine.guest.disks[disk.name])
                    let short = place.path.dropFirst("/dev/".count)
                    #expect(try await shell.run("echo $(cat /sys/block/\(short)/serial)") == disk.name)
                    #expect(try await shell.run("head -n 1 \(place.path)") == "this is \(disk.name)")
                    #expect(try await shell.run("cat /sys/block/\(short)/ro") == (disk.readOnly ? "1" : "0"))
                }
                let writable = try #require(machine.guest.disks["writable"]).path
                _ = try await shell.run("printf changed | dd of=\(writable) conv=notrunc,fsync 2>/dev/null")
                #expect(try readFile("\(lab.folder)/writable").starts(with: "changed".utf8))
                #expect(try await shell.run("nproc") == "2")
                // The stream carries any byte, both ways at once.
                let all = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 8) }
                try await shell.send("head -c \(all.count) <&3")
                async let sending: Void = writeAll(shell.stream.raw, all)
                #expect(try await shell.bytes(all.count) == all)
                try await sending
                #expect(try await shell.line() == "@@ 0")

                try await machine.pause()
                try await shell.send("echo late")
                await #expect(throws: DeadlineError.self) {
                    try await withDeadline(.milliseconds(300), awaiting: "nothing") { try await shell.line() }
                }
                try await machine.resume()
                #expect(try await shell.line() == "late")
                #expect(try await shell.line() == "@@ 0")
                await machine.stop(grace: .zero)
                #expect(await machine.wait().reason == .stopped)
            }
        }
    }

    @Test func resetAndPanicAndDeathAreToldApart() async throws {
        try await Lab.run { lab in
            let spec = try await lab.spec()
            let reset = try await lab.withShell(spec) { machine, shell in
                try await shell.send("reboot -f")
                return await machine.wait()
            }
            #expect(reset.reason == .reset)

            let panicked = try await lab.withShell(spec) { machine, shell in
                try await shell.send("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger")
                return await machine.wait()
            }
            #expect(panicked.reason == .panicked)
            #expect(panicked.consoleTail.contains("sysrq triggered crash"))
            #expect(try readText(spec.consoleLog).contains("Kernel panic - not syncing"))

            let killed = try await lab.withShell(spec) { machine, shell in
                machine.processes[0].identity.signal(SIGKILL)
                return await machine.wait()
            }
            #expect(killed.reason == .vmmDied(.signal(SIGKILL)))
        }
    }

    @Test func memoryAndProcessorsComeLater() async throws {
        try await Lab.run { lab in
            let spec = try await lab.spec(modules: ["virtio_mem", "virtio_balloon"]) {
                $0.growth = .init(memoryBytes: 2 << 30, vcpus: 2)
            }
            try await lab.withShell(spec) { machine, shell in
                let resizing = try #require(machine.resizing)
                func megabytes() async throws -> Int {
                    try #require(Int(try await shell.run("free -m | awk '/Mem:/ { print $2 }'")))
                }
                #expect(try await shell.run("nproc") == "1")
                #expect(try await shell.run("echo 1 >/sys/devices/system/cpu/cpu1/online; nproc") == "2")
                let began = try await megabytes()
                #expect(try await resizing.resize(memory: 1 << 30) == 1 << 30)
                let more = try await megabytes()
                #expect((700...800).contains(more - began), "\(began) MiB, then \(more)")
                // It can be used: a file of more than the machine began with.
                let use = "mount -t tmpfs -o size=90% none /mnt; dd if=/dev/zero of=/mnt/x bs=1M count=500 2>/dev/null"
                #expect(try await shell.run("\(use); wc -c </mnt/x; rm /mnt/x") == "524288000")
                // What it was given it gives back, and then of its own.
                let left = try await resizing.resize(memory: 176 << 20)
                #expect(left >= 176 << 20 && left < 260 << 20, "\(left)")
                let less = try await megabytes()
                #expect(less < began - 40, "\(began) MiB, then \(less)")
                #expect(try await resizing.resize(memory: 256 << 20) >= 256 << 20)
                await #expect { try await resizing.resize(memory: 4 << 30) } throws: {
                    ($0 as? MachineError)?.code == .unsupported
                }
                #expect(try await shell.run("echo 0 >/sys/devices/system/cpu/cpu1/online; nproc") == "1")
            }
            var small = spec
            small.kind = .microvm
            #expect(throws: MachineError.self) { try QEMU().layout(of: small) }
        }
    }

    @Test func powerOffOfAPC() async throws {
        try await Lab.run { lab in
            let exit = try await lab.withShell(try await lab.spec { $0.kind = .q35 }) { machine, shell in
                try await shell.send("poweroff -f")
                return await machine.wait()
            }
            #expect(exit.reason == .poweredOff)
        }
    }

    @Test func whatCannotStartSaysWhyAndLeavesNothing() async throws {
        try await Lab.run { lab in
            var spec = try await lab.spec()
            spec.disks = [Disk(name: "gone", path: "\(lab.folder)/gone", readOnly: true)]
            await #expect { try await lab.withShell(spec) { _, _ in } } throws: { "\($0)".contains("the disk 'gone'") }
            spec.disks = []

            spec.kernel = "/etc/passwd"
            await #expect { try await lab.withShell(spec) { _, _ in } } throws: { ($0 as? MachineError)?.code == .startFailed }

            spec.kernel = try await Lab.kernel().image
            spec.memoryBytes = 64 << 20
            await #expect { try await lab.withShell(spec) { _, _ in } } throws: { ($0 as? MachineError)?.code == .unsupported }
        }
    }

    @Test func theLeastMemoryBoots() async throws {
        try await Lab.run { lab in
            let spec = try await lab.spec { $0.memoryBytes = QEMUPlan.leastMemory }
            try await lab.withShell(spec) { _, shell in
                let answer = try await shell.run("echo up")
                #expect(answer == "up")
            }
        }
    }

    @Test func aTapCarriesFrames() async throws {
        try await Lab.run { lab in
            let tap = SharedDescriptor(try openFile("/dev/net/tun", O_RDWR | O_NONBLOCK))
            // IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, in a network namespace of its own.
            try inNetworkNamespace {
                try checked("make a tap") { hull_ioctl_tun_set(tap.raw, "hulltest0", 0x0002 | 0x1000 | 0x4000) }
                try checked("size a tap's header") { hull_ioctl_tun_vnet_header_size(tap.raw, 12) }
            }
            let mac = "02:48:00:00:00:01"
            let spec = try await lab.spec { $0.nics = [NIC(mac: mac, mtu: 1400, tap: tap)] }
            try await lab.withShell(spec) { machine, shell in
                #expect(machine.guest.nics == [mac])
                let answer = try await shell.run("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu")
                #expect(answer == "\(mac)\n1400")
            }
        }
    }

    /// Runs `body` on a thread of its own that has a network namespace of its own.
    private func inNetworkNamespace(_ body: @escaping @Sendable () throws -> Void) throws {
        final class Box: Sendable {
            let body: @Sendable () throws -> Void
            init(_ body: @escaping @Sendable () throws -> Void) { self.body = body }
        }
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Box(body))
        pthread_create(
            &thread, nil,
            { context in
                let box = Unmanaged<Box>.fromOpaque(context!).takeRetainedValue()
                guard hull_unshare(CLONE_NEWNET) == 0 else { return nil }
                do { try box.body() } catch { return nil }
                return UnsafeMutableRawPointer(bitPattern: 1)
            }, box.toOpaque())
        var result: UnsafeMutableRawPointer?
        pthread_join(thread, &result)
        if result == nil { throw SystemError("make a tap in a namespace") }
    }
}
