import LinuxSystem
import Machines
import Testing

@testable import QEMUDriver

@Suite struct ArgumentTests {
    static func spec() -> MachineSpec {
        MachineSpec(
            id: "abc", memoryBytes: (256 << 20) - 1, vcpus: 2, kernel: "/k", initramfs: "/i", kernelArguments: ["extra=1"],
            consoleLog: "/log", confinement: Confinement(uidBase: 1))
    }

    static func arguments(_ spec: MachineSpec, _ board: QEMUBoard, _ accelerator: ResolvedAccelerator) -> QEMUArguments {
        QEMUArguments(
            spec: spec, board: board, accelerator: accelerator, tscKilohertz: 2_600_000,
            boot: .init(kernel: "/kernel", initramfs: "/initramfs"),
            control: 3, agent: 4, console: 5, share: spec.share == nil ? nil : 6,
            disks: spec.disks.indices.map { .init(descriptor: Int32(7 + $0), isBlockDevice: $0 == 1) }, taps: [])
    }

    @Test func theSmallestMachine() {
        #expect(
            Self.arguments(Self.spec(), .microvm, .tcg).words() == [
                "-name", "hull-abc", "-machine",
                "microvm,acpi=on,pit=off,pic=off,rtc=on,pcie=off,usb=off,auto-kernel-cmdline=off,x-option-roms=off,memory-backend=memory",
                "-accel", "tcg,tb-size=128", "-cpu", "max,-erms,-fsrm", "-smp", "2", "-m", "256M", "-object",
                "memory-backend-ram,id=memory,size=256M",
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S",
                "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
                "-kernel", "/kernel", "-initrd", "/initramfs", "-append",
                "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests=1 random.trust_cpu=on no_timer_check tsc_early_khz=2600000 tsc=reliable extra=1",
                "-chardev", "socket,id=control,fd=3", "-mon", "chardev=control,mode=control",
                "-chardev", "socket,id=console,fd=5", "-serial", "chardev:console", "-chardev", "socket,id=agent,fd=4",
                "-bios", "qboot.rom", "-device", "virtio-serial-device,id=ports,max_ports=2",
                "-device", "virtserialport,bus=ports.0,nr=1,chardev=agent,name=hull.agent",
            ])
    }

    @Test func disksAndAShareOnAPC() {
        var spec = Self.spec()
        spec.disks = [Disk(name: "image", path: "/x", readOnly: true), Disk(name: "rw", path: "/dev/x", readOnly: false)]
        spec.share = Share(tag: "hull", entries: [])
        let words = Self.arguments(spec, .q35, .kvm).words()
        #expect(words.contains("q35,smm=off,vmport=off,usb=off,graphics=off,memory-backend=memory"))
        #expect(words.contains("memory-backend-ram,id=memory,size=256M"))
        #expect(words.contains("host"))
        #expect(words.contains("qboot.rom"))
        #expect(!words.contains { $0.contains("tsc") })
        let rest = words.suffix(16)
        #expect(
            Array(rest) == [
                "-add-fd", "fd=7,set=1", "-blockdev",
                "driver=raw,node-name=disk0,read-only=on,auto-read-only=off,file.driver=file,file.filename=/dev/fdset/1,file.read-only=on",
                "-device", "virtio-blk-pci,drive=disk0,serial=image,werror=report,rerror=report", "-add-fd", "fd=8,set=2",
                "-blockdev",
                "driver=raw,node-name=disk1,read-only=off,auto-read-only=off,discard=unmap,file.driver=host_device,file.filename=/dev/fdset/2,file.discard=unmap",
                "-device", "virtio-blk-pci,drive=disk1,serial=rw,werror=report,rerror=report", "-chardev", "socket,id=share,fd=6",
                "-device",
                "vhost-user-fs-pci,chardev=share,tag=hull",
            ])
    }

    @Test func whatMayCome() throws {
        var spec = Self.spec()
        spec.growth = .init(memoryBytes: 1000 << 20, vcpus: 100)
        #expect(try QEMUBoard.resolve(spec) == .q35)
        let words = Self.arguments(spec, .q35, .tcg).words()
        // 744 MiB are not six blocks of 128.
        #expect(words.contains("256M,slots=1,maxmem=896M"))
        #expect(words.contains("memory-backend-file,id=later,size=640M,mem-path=,share=on,reserve=off"))
        #expect(words.contains("virtio-mem-pci,id=growing,memdev=later,requested-size=0"))
        #expect(words.contains("virtio-balloon-pci,id=balloon"))
        #expect(words.contains("8"))
        let append = " maxcpus=\(spec.vcpus) memhp_default_state=online memory_hotplug.online_policy=auto-movable"
        #expect(words.contains { $0.contains(append) })
        #expect(Self.arguments(spec, .q35, .kvm).words().contains("64"))
    }

    @Test func theLayoutFollowsTheOrder() throws {
        var spec = Self.spec()
        spec.disks = ["a", "b", "c"].map { Disk(name: $0, path: "/x", readOnly: true) }
        let layout = try QEMU().layout(of: spec)
        #expect(layout.disks["c"] == GuestDisk(path: "/dev/vdc", serial: "c"))
        #expect(layout.modules == ["virtio_mmio", "virtio_console", "virtio_blk"])
        spec.kind = .q35
        spec.share = Share(tag: "hull", entries: [])
        #expect(try QEMU().layout(of: spec).modules == ["virtio_pci", "virtio_console", "virtio_blk", "virtiofs"])
    }

    @Test(arguments: ["", "a,b", "name with spaces", "123456789012345678901", "x\"", "é"])
    func namesThatCouldBecomeOptionsAreRefused(_ name: String) {
        var spec = Self.spec()
        spec.disks = [Disk(name: name, path: "/x", readOnly: true)]
        #expect(throws: MachineError.self) { try QEMU().layout(of: spec) }
        spec.disks = []
        if name.utf8.count != 21 {
            spec.share = Share(tag: name, entries: [])
            #expect(throws: MachineError.self) { try QEMU().layout(of: spec) }
        }
    }

    @Test func tooManyDevices() {
        var spec = Self.spec()
        spec.disks = (0..<24).map { Disk(name: "d\($0)", path: "/x", readOnly: true) }
        #expect(throws: MachineError.self) { try QEMU().layout(of: spec) }
    }

    @Test(arguments: [
        ("02:00:00:00:00:0a", true), ("02:00:00:00:00:0A", false), ("02:00:00:00:00", false), ("02:00:00:00:00:0a,x", false),
    ])
    func macs(_ text: String, _ good: Bool) { #expect(QEMUPlan.isMAC(text) == good) }
}

@Suite struct AcceleratorTests {
    @Test func theFlagDecides() {
        #expect(KVMState.hasFlag("processor: 0\nflags\t\t: fpu svm sse\n"))
        #expect(KVMState.hasFlag("flags\t\t: fpu vmx\n"))
        #expect(!KVMState.hasFlag("flags\t\t: fpu svm_lock vmxx\nmodel name: vmx\n"))
    }

    @Test func choices() throws {
        let works = KVMState(hasCPUFlag: true, failure: nil)
        let flagless = KVMState(hasCPUFlag: false, failure: nil)
        let absent = KVMState(hasCPUFlag: true, failure: "absent")
        #expect(try ResolvedAccelerator.resolve(.auto, works) == .kvm)
        #expect(try ResolvedAccelerator.resolve(.auto, flagless) == .tcg)
        #expect(try ResolvedAccelerator.resolve(.auto, absent) == .tcg)
        #expect(try ResolvedAccelerator.resolve(.kvm, flagless) == .kvm)
        #expect(try ResolvedAccelerator.resolve(.tcg, works) == .tcg)
        #expect(throws: MachineError.self) { try ResolvedAccelerator.resolve(.kvm, absent) }
    }

    @Test func theCounterIsSteady() throws {
        let one = try #require(TSCFrequency.measure())
        let two = try #require(TSCFrequency.measure())
        // 2 % off is 2 % off in the guest's clock: two measurements agree within a thousandth.
        #expect(one.distance(to: two).magnitude < one / 1000)
    }

    @Test func whatWasMeasuredBeforeThisBootIsForgotten() {
        #expect(TSCFrequency.parse("boot 2600000\n", boot: "boot") == 2_600_000)
        #expect(TSCFrequency.parse("boot 2600000\n", boot: "other") == nil)
        #expect(TSCFrequency.parse("boot 12\n", boot: "boot") == nil)
        #expect(TSCFrequency.parse("", boot: "") == nil)
    }

    @Test func versions() {
        #expect(QEMUProgram.parse("QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg)")! == (7, 2))
        #expect(QEMUProgram.parse("QEMU emulator version 10.0.2\n")! == (10, 0))
        #expect(QEMUProgram.parse("no") == nil)
    }
}

@Suite struct JSONTests {
    @Test func messages() throws {
        let text =
            #"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}, "timestamp": {"seconds": 1, "x": -2.5e1}}"#
        let value = try JSON(parsing: Array(text.utf8))
        #expect(value["event"]?.text == "SHUTDOWN")
        #expect(value["data"]?["guest"]?.truth == true)
        #expect(value["timestamp"]?["seconds"]?.count == 1)
        #expect(value["timestamp"]?["x"] == .number(-25))
        #expect(try JSON(parsing: Array(value.encoded.utf8)) == value)
    }

    @Test func strings() throws {
        let value = try JSON(parsing: Array(#""a\"\\\/\n\u00e9\ud83d\ude00\ud800x""#.utf8))
        #expect(value.text == "a\"\\/\né😀\u{FFFD}x")
        #expect(JSON.string("\u{1}\"\\\n").encoded == #""\u0001\"\\\n""#)
    }

    @Test(arguments: ["", "{", "[1", "{\"a\"}", "{\"a\":}", "tru", "\"", "\"\\u12\"", "1 2", "[1,]", "-", "{1:2}"])
    func refusals(_ text: String) { #expect(throws: JSONError.self) { try JSON(parsing: Array(text.utf8)) } }

    @Test func depthIsBounded() {
        #expect(throws: JSONError.self) { try JSON(parsing: [UInt8](repeating: 0x5B, count: 1_000_000)) }
    }
}

@Suite struct ConsoleTailTests {
    @Test func onlyTheEndAndNoControlCharacters() {
        var tail = ConsoleTail(limit: 100)
        for index in 0..<1000 { tail.append(Array("line \(index)\r\n".utf8)) }
        tail.append(Array("\u{1B}[31mred\u{7}\n".utf8))
        #expect(tail.lines(2) == "line 999\n\u{FFFD}[31mred\u{FFFD}")
    }

    @Test(arguments: [
        ("[    1.5] Kernel panic - not syncing: VFS\n", true), ("Kernel panic - not syncing: x", true),
        ("echo 'Kernel panic - not syncing'", false),
    ]) func panics(_ text: String, _ isPanic: Bool) {
        var tail = ConsoleTail(limit: 1000)
        tail.append(Array("before\n\(text)".utf8))
        #expect(tail.showsPanic == isPanic)
    }
}
