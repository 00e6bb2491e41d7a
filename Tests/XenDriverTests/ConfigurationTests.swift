import LinuxSystem
import Machines
import Testing

@testable import XenDriver

/// What xl is told, from specs, to the last letter.
@Suite struct ConfigurationTests {
    static let id = "0123456789abcdef0123456789abcdeffedcba9876543210fedcba9876543210"

    static func spec(_ change: (inout MachineSpec) -> Void = { _ in }) -> MachineSpec {
        var spec = MachineSpec(
            id: id, memoryBytes: 256 << 20, kernel: "/cache/kernel", initramfs: "/cache/initramfs", consoleLog: "/log",
            confinement: Confinement(uidBase: 100_000))
        change(&spec)
        return spec
    }

    static let root = Disk(name: "root", path: "/images/root.erofs", readOnly: true)
    static let nic = NIC(mac: "02:42:0a:d5:00:02", mtu: 1500, end: .interface { _ in })

    /// On a host that runs domains of all types.
    static func plan(_ spec: MachineSpec) throws -> DomainPlan { try DomainPlan(spec, possible: [.pv, .pvh, .hvm]) }

    @Test("A PV domain without devices")
    func plain() throws {
        let spec = Self.spec()
        let plan = try DomainPlan(spec, possible: [.pv])
        #expect(
            try plan.configuration(spec, devices: []).text() == """
                name = "hull-\(Self.id)"
                uuid = "01234567-89ab-cdef-0123-456789abcdef"
                type = "pv"
                memory = 256
                maxmem = 256
                vcpus = 1
                kernel = "/cache/kernel"
                ramdisk = "/cache/initramfs"
                cmdline = "console=hvc0 quiet panic=-1 xen_legacy_crash cryptomgr.notests=1 random.trust_cpu=on"
                on_poweroff = "preserve"
                on_reboot = "preserve"
                on_crash = "preserve"
                on_watchdog = "preserve"
                on_soft_reset = "preserve"

                """)
        #expect(plan.layout.modules == ["xen_evtchn", "xen_gntalloc"])
        #expect(plan.layout.agentStream == .sharedMemory)
        #expect(plan.layout.share == nil)
    }

    @Test("A share is the agent's to carry, and nothing that xl is told of")
    func share() throws {
        let spec = Self.spec { $0.share = Share(tag: "hull", entries: [ShareEntry(name: "m0", hostPath: "/data")]) }
        let (with, without) = (try Self.plan(spec), try Self.plan(Self.spec()))
        #expect(with.layout.share == GuestShare(tag: "hull", carrier: .relay))
        #expect(with.layout.modules == ["xen_evtchn", "xen_gntalloc", "fuse"])
        #expect(
            try with.configuration(spec, devices: []).text() == without.configuration(Self.spec(), devices: []).text())
    }

    @Test("A PVH domain with disks and a network interface")
    func whole() throws {
        let spec = Self.spec { spec in
            spec.kind = .pvh
            spec.memoryBytes = (300 << 20) + 1
            spec.vcpus = 3
            spec.kernelArguments = ["a=b", "c"]
            spec.disks = [Self.root, Disk(name: "rw", path: "/c/disk.img", readOnly: false)]
            spec.nics = [Self.nic]
        }
        let plan = try Self.plan(spec)
        #expect(
            try plan.configuration(spec, devices: ["/dev/loop0", "/dev/loop7"]).text() == """
                name = "hull-\(Self.id)"
                uuid = "01234567-89ab-cdef-0123-456789abcdef"
                type = "pvh"
                memory = 301
                maxmem = 301
                vcpus = 3
                kernel = "/cache/kernel"
                ramdisk = "/cache/initramfs"
                cmdline = "console=hvc0 quiet panic=-1 xen_legacy_crash cryptomgr.notests=1 random.trust_cpu=on a=b c"
                on_poweroff = "preserve"
                on_reboot = "preserve"
                on_crash = "preserve"
                on_watchdog = "preserve"
                on_soft_reset = "preserve"
                disk = [
                    "format=raw,vdev=xvda,access=ro,backendtype=phy,script=/bin/true,target=/dev/loop0",
                    "format=raw,vdev=xvdb,access=rw,backendtype=phy,script=/bin/true,target=/dev/loop7",
                ]
                vif = [
                    "mac=02:42:0a:d5:00:02,script=/bin/true",
                ]

                """)
        #expect(plan.layout.disks == ["root": GuestDisk(path: "/dev/xvda"), "rw": GuestDisk(path: "/dev/xvdb")])
        #expect(plan.layout.nics == ["02:42:0a:d5:00:02"])
        #expect(plan.layout.modules == ["xen_evtchn", "xen_gntalloc", "xen_blkfront", "xen_netfront"])
    }

    @Test("An HVM domain's QEMU is in a domain of its own, with the guest's kernel; its disks are not emulated")
    func hvm() throws {
        let spec = Self.spec { spec in
            spec.kind = .hvm
            spec.disks = [Self.root]
            spec.nics = [Self.nic]
            spec.stubdomain = .init(kernel: "/s/kernel", ramdisk: "/cache/ramdisk", memoryBytes: (300 << 20) + 1)
        }
        let plan = try Self.plan(spec)
        #expect(
            try plan.configuration(spec, devices: ["/dev/loop0"]).text() == """
                name = "hull-\(Self.id)"
                uuid = "01234567-89ab-cdef-0123-456789abcdef"
                type = "hvm"
                memory = 256
                maxmem = 256
                vcpus = 1
                kernel = "/hull/kernel"
                ramdisk = "/hull/initramfs"
                cmdline = "console=hvc0 quiet panic=-1 xen_legacy_crash cryptomgr.notests=1 random.trust_cpu=on"
                device_model_version = "qemu-xen"
                device_model_stubdomain_override = 1
                stubdomain_kernel = "/s/kernel"
                stubdomain_ramdisk = "/cache/ramdisk"
                stubdomain_cmdline = "console=hvc0 quiet panic=-1 xen_privcmd.unrestricted=1 initcall_blacklist=xlblk_init,netif_init"
                stubdomain_memory = 301
                xen_platform_pci = 0
                vga = "none"
                nographic = 1
                vnc = 0
                usb = 0
                on_poweroff = "preserve"
                on_reboot = "preserve"
                on_crash = "preserve"
                on_watchdog = "preserve"
                on_soft_reset = "preserve"
                disk = [
                    "format=raw,vdev=xvde,access=ro,backendtype=phy,script=/bin/true,target=/dev/loop0",
                ]
                vif = [
                    "mac=02:42:0a:d5:00:02,script=/bin/true,type=vif",
                ]

                """)
        #expect(plan.layout.disks == ["root": GuestDisk(path: "/dev/xvde")])
        #expect(throws: MachineError.self) { try DomainPlan(spec, possible: [.pv]) }
        #expect(throws: MachineError.self) { try Self.plan(Self.spec { $0.kind = .hvm }) }
    }

    @Test("auto is PVH where the host can, else PV")
    func kinds() throws {
        #expect(try Self.plan(Self.spec()).kind == .pvh)
        #expect(try DomainPlan(Self.spec(), possible: [.pv]).kind == .pv)
        #expect(try Self.plan(Self.spec { $0.kind = .pv }).kind == .pv)
        #expect(throws: MachineError.self) { try DomainPlan(Self.spec { $0.kind = .pvh }, possible: [.pv]) }
    }

    @Test("What Xen says of itself tells the types; on Arm there is PVH alone")
    func capabilities() throws {
        typealias Kind = DomainConfiguration.Kind
        #expect(Kind.possible("xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 \n") == [.pv, .pvh, .hvm])
        #expect(Kind.possible("xen-3.0-x86_64 \n") == [.pv])
        let arm = Kind.possible("xen-3.0-aarch64 xen-3.0-armv7l \n")
        #expect(try DomainPlan(Self.spec(), possible: arm).kind == .pvh)
        for kind in [MachineSpec.Kind.pv, .hvm] {
            let error = #expect(throws: MachineError.self) { try DomainPlan(Self.spec { $0.kind = kind }, possible: arm) }
            #expect(error?.sentence.contains("PVH alone") == true)
        }
    }

    @Test("What cannot be honoured is refused before anything is made")
    func refusals() throws {
        let wrong: [(inout MachineSpec) -> Void] = [
            { $0.kind = .microvm }, { $0.kind = .q35 }, { $0.accelerator = .kvm }, { $0.memoryBytes = 64 << 20 },
            { $0.vcpus = 0 },
            { $0.id = "short" }, { $0.id = "Z" + String(Self.id.dropFirst()) },
            { $0.disks = [Disk(name: "a", path: "/a", readOnly: true), Disk(name: "a", path: "/b", readOnly: true)] },
        ]
        for change in wrong {
            #expect(throws: MachineError.self) { try Self.plan(Self.spec(change)) }
        }
        for name in ["a\"b", "a\\b", "a\nb"] {
            #expect(throws: MachineError.self) { try DomainConfiguration.quoted(name) }
        }
    }
}

/// What doctor says of a Dom0.
@Suite struct HostReportTests {
    static func report(_ change: (inout HostReport) -> Void = { _ in }) -> HostReport {
        var report = HostReport(
            facts: ["xen_version": "4.17.7", "virt_caps": "pv hvm hap", "free_memory": "1200", "total_memory": "2560"],
            program: "/usr/lib/xen-4.17/bin/xl", possible: [.pv, .pvh, .hvm], modules: Set(HostReport.modules),
            hasConsoleDaemon: true,
            hasShareServer: true)
        change(&report)
        return report
    }

    @Test("A Dom0 that has all")
    func whole() throws {
        let report = Self.report()
        try report.check()
        #expect(
            report.remarks == [
                "Xen 4.17.7, by /usr/lib/xen-4.17/bin/xl", "domains can be PV, PVH, HVM; machines are PVH",
                "1200 of 2560 MiB of memory are free for domains",
                "domains' networks are at a bridge of Hull's own, hull0, which comes with the first of them; xenbr0 is not needed",
            ])
    }

    @Test("What is missing, with the remedy")
    func missing() throws {
        let wrong: [((inout HostReport) -> Void, String)] = [
            ({ $0.modules = [] }, "modprobe xen-blkback"), ({ $0.hasConsoleDaemon = false }, "start xenconsoled"),
            ({ $0.facts["free_memory"] = "50" }, "only 50 MiB"),
        ]
        for (change, words) in wrong {
            #expect { try Self.report(change).check() } throws: { "\($0)".contains(words) }
        }
        let remarks: [((inout HostReport) -> Void, String)] = [
            ({ $0.modules.remove("xen_netback") }, "modprobe xen-netback"),
            ({ $0.facts["free_memory"] = "500" }, "xl mem-set 0"),
            (
                {
                    $0.possible = [.pv]
                    $0.facts["virt_caps"] = "pv"
                }, "can be PV: machines are PV, which"
            ),
            ({ $0.facts["virt_caps"] = "pv hvm" }, "without paging in hardware"),
            ({ $0.lackingEmulation = ["qemu-system-xen", "seabios"] }, "apt-get install qemu-system-xen seabios"),
        ]
        for (change, words) in remarks {
            let report = Self.report(change)
            try report.check()
            #expect(report.remarks.contains { $0.contains(words) }, "\(report.remarks)")
        }
    }
}

/// Devices that come and go.
@Suite struct DeviceTests {
    @Test("The first free place is taken, and what is kept of a waiting domain can be read again")
    func places() throws {
        var devices = DomainDevices()
        #expect(devices.freePlace(from: 0) == 0)
        devices.disks = ["root": 0, "modules": 2]
        devices.nics = ["02:00:00:00:00:01": 0]
        #expect(devices.freePlace(from: 0) == 1)
        #expect(devices.path(of: "modules") == "/dev/xvdc")
        #expect(devices.path(of: "rw") == nil)
        #expect(devices.facts == ["disks": "0=root 2=modules"])
        var kept = devices
        kept.nics = [:]
        #expect(DomainDevices(facts: devices.facts) == kept)
        for text in ["x", "26=a", "-1=a", "1"] { #expect(DomainDevices(facts: ["disks": text]) == nil) }
        #expect(DomainDevices(facts: [:]) == nil)
        for place in 0..<26 { devices.disks["d\(place)"] = place }
        devices.disks["root"] = nil
        devices.disks["modules"] = nil
        #expect(devices.freePlace(from: 0) == nil)
    }

    @Test("A disk and a NIC as xl takes them")
    func words() {
        let disk = DomainConfiguration.BlockDevice(name: "xvdb", path: "/dev/loop3", readOnly: true)
        #expect(disk.words == "format=raw,vdev=xvdb,access=ro,backendtype=phy,script=/bin/true,target=/dev/loop3")
        #expect(DomainConfiguration.words(nic: "02:42:0a:d5:00:02", .pv) == "mac=02:42:0a:d5:00:02,script=/bin/true")
    }

    @Test("What was saved under another Xen, or as another type, is refused")
    func facts() throws {
        let plan = try ConfigurationTests.plan(ConfigurationTests.spec { $0.kind = .pv })
        func snapshot(_ facts: [String: String]) -> Snapshot { Snapshot(memory: "", state: "", facts: facts) }
        try plan.check(snapshot(plan.facts))
        #expect { try plan.check(snapshot(["type": "pvh"])) } throws: { "\($0)".contains("the type of domain was pvh") }
        #expect { try plan.check(snapshot(["xen": "4.0"])) } throws: { "\($0)".contains("the version of Xen was 4.0") }
    }
}

/// xl list -v, as Xen 4.17 prints it.
@Suite struct DomainListTests {
    @Test("Domains are found by their UUID, and how they ended is told apart")
    func parsing() {
        let all = DomainList.parse(
            """
            Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label
            Domain-0                                     0  1280     1     r-----      71.8 00000000-0000-0000-0000-000000000000        -                -
            hull-1                                       3   256     1     -b----       1.0 11111111-0000-0000-0000-000000000000        -                -
            a name                                       4   256     1     --p---       0.0 22222222-0000-0000-0000-000000000000        -                -
            hull-3                                       5   255     1     ---s--       9.9 33333333-0000-0000-0000-000000000000        0                -
            hull-4                                       6   255     1     ---s--       9.9 44444444-0000-0000-0000-000000000000        1                -
            hull-5                                       7   255     1     ---sc-       9.9 55555555-0000-0000-0000-000000000000        3                -
            (null)                                       8     0     1     --psrd       9.9 66666666-0000-0000-0000-000000000000        1                -
            """)
        func state(_ digit: String) -> DomainState? { all["\(String(repeating: digit, count: 8))-0000-0000-0000-000000000000"] }
        #expect(all.count == 7)
        #expect(state("0") == DomainState(id: 0, name: "Domain-0", isPaused: false, isDying: false, end: nil))
        #expect(state("1") == DomainState(id: 3, name: "hull-1", isPaused: false, isDying: false, end: nil))
        #expect(state("2") == DomainState(id: 4, name: "a name", isPaused: true, isDying: false, end: nil))
        #expect(state("3")?.end == .powerOff)
        #expect(state("4")?.end == .reboot)
        #expect(state("5")?.end == .crash)
        #expect(state("6")?.isDying == true)
        #expect(state("7") == nil)
    }

    @Test("The domain of a device model is known by the name that xl gives it")
    func stubdomains() {
        func state(_ name: String) -> DomainState { DomainState(id: 3, name: name, isPaused: false, isDying: false) }
        let uuid = "01234567-89ab-cdef-0123-456789abcdef"
        #expect(state("hull-\(ConfigurationTests.id)-dm").isStubdomain(of: uuid))
        for name in ["hull-\(ConfigurationTests.id)", "hull-1-dm", "\(ConfigurationTests.id)-dm", ""] {
            #expect(!state(name).isStubdomain(of: uuid))
        }
    }

    @Test("Xen's own word says the same")
    func flags() {
        func state(_ flags: Int) -> DomainState { DomainState(id: 3, name: "one", flags: flags) }
        #expect(state(0x20) == DomainState(id: 3, name: "one", isPaused: false, isDying: false, end: nil))
        #expect(state(0x118) == DomainState(id: 3, name: "one", isPaused: true, isDying: false, end: nil))
        #expect(state(0x4).end == .powerOff)
        #expect(state(0x1_0014).end == .reboot)
        #expect(state(0x2_000c) == DomainState(id: 3, name: "one", isPaused: true, isDying: false, end: .suspend))
        #expect(state(0x3_0004).end == .crash)
        #expect(state(0x63_0004).end == .crash)
        // The reason is one only of a domain that has ended.
        #expect(state(0xFF_0010).end == nil)
        #expect(state(0x1_000d).isDying)
    }

    @Test("What is no list is empty")
    func nonsense() { #expect(DomainList.parse("libxl: error: libxl.c\n\n-----\n a b c d e f g").isEmpty) }
}
