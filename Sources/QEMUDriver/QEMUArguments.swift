import Machines

/// QEMU's command line, from a spec and the numbers that its descriptors will have. Pure: the same input, the same words.
struct QEMUArguments: Sendable {
    /// The name of the agent's virtio port.
    static let agentPort = "hull.agent"
    /// MiB for TCG's translations of the guest's code: a boot fills 55 of them.
    static let translationMegabytes = 128

    /// A disk's descriptor in QEMU, and what kind of file it is.
    struct DiskBacking: Sendable, Hashable {
        var descriptor: Int32
        var isBlockDevice: Bool
    }

    var spec: MachineSpec
    var board: QEMUBoard
    var accelerator: ResolvedAccelerator
    /// The host's TSC in kHz, needed under TCG.
    var tscKilohertz: UInt64?
    /// As QEMU sees it, inside its root; nil for a machine whose memory holds all of it already.
    var boot: Boot?
    /// The descriptor of the devices' state to begin with.
    var incoming: Int32?
    /// Where the guest's memory is; nil for memory of QEMU's own.
    var memoryFile: MemoryFile?
    /// Where the memory is that may come later, where there is such.
    var laterFile: String?
    /// Descriptor numbers in QEMU.
    var control: Int32
    var agent: Int32
    var console: Int32
    var share: Int32?
    var disks: [DiskBacking]
    var taps: [Int32]
    /// Whether QEMU gives up rights by itself. One that makes copies of itself has them given up by each.
    var isSandboxed = true

    /// What a cold boot begins with.
    struct Boot: Sendable, Hashable {
        var kernel: String
        var initramfs: String
    }

    /// A file as the guest's memory, as QEMU sees it.
    struct MemoryFile: Sendable, Hashable {
        var path: String
        /// Mapped privately, and the file cannot be written: what the guest writes stays its own.
        var isPrivate: Bool
    }

    /// The number of the set of descriptors with the state to begin with; disks have those from 1 on, and states that are saved those
    /// above it.
    static let stateSet = 1000

    /// What a copy of the machine has its own of, besides its disks.
    var descriptors: [AwakePlace.Role: Int32] {
        var all = [AwakePlace.Role.control: control, .agent: agent, .console: console]
        all[.share] = share
        for (index, tap) in taps.enumerated() { all[.tap(index)] = tap }
        return all
    }

    /// Whole MiB, rounded up.
    var megabytes: UInt64 { spec.wholeMemory >> 20 }

    /// The words after the program's name.
    func words() -> [String] {
        var words = [
            "-name", "hull-\(spec.id)", "-machine", machine, "-accel", acceleration,
            "-cpu", processor, "-smp", "\(processors)", "-m", room,
            "-object", memory, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S",
        ]
        if isSandboxed { words += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"] }
        if let boot {
            words += ["-kernel", boot.kernel, "-initrd", boot.initramfs, "-append", commandLine.joined(separator: " ")]
        }
        // The state begins with a device, as `xen-save-devices-state` writes it, and not with a section about the board.
        if let incoming {
            words += ["-add-fd", "fd=\(incoming),set=\(Self.stateSet)", "-incoming", "defer"]
            words += ["-global", "migration.send-configuration=off", "-global", "migration.x-events=on"]
        }
        words += [
            "-chardev", "socket,id=control,fd=\(control)", "-mon", "chardev=control,mode=control",
            "-chardev", "socket,id=console,fd=\(console)", "-serial", "chardev:console",
            "-chardev", "socket,id=agent,fd=\(agent)",
        ]
        // It hands over to a kernel in a tenth of SeaBIOS's time.
        words += ["-bios", "qboot.rom"]
        // "virtio legacy devices aren't supported by libvhost-user", says QEMU 7.2's share server, and ends.
        if board == .microvm, spec.share != nil { words += ["-global", "virtio-mmio.force-legacy=false"] }
        words += ["-device", device("virtio-serial", "id=ports,max_ports=2")]
        words += ["-device", "virtserialport,bus=ports.0,nr=1,chardev=agent,name=\(Self.agentPort)"]
        for (index, disk) in spec.disks.enumerated() { words += diskWords(disk, disks[index], index) }
        if let share, let tag = spec.share?.tag {
            words += ["-chardev", "socket,id=share,fd=\(share)"]
            words += ["-device", device("vhost-user-fs", "chardev=share,tag=\(tag)")]
        }
        for (index, nic) in spec.nics.enumerated() {
            words += ["-netdev", "tap,id=net\(index),fd=\(taps[index])"]
            let mtu = nic.mtu.map { ",host_mtu=\($0)" } ?? ""
            let rom = board == .q35 ? ",romfile=" : ""
            words += ["-device", device("virtio-net", "netdev=net\(index),mac=\(nic.mac)\(mtu)\(rom)")]
        }
        if let later = laterMemory {
            // Nothing of it is there until the guest is asked to take some. A guest that took more would be stopped by its cgroup.
            words += ["-object", "memory-backend-file,id=later,size=\(later)M,mem-path=\(laterFile ?? ""),share=on,reserve=off"]
            words += ["-device", device("virtio-mem", "id=\(Self.growingDevice),memdev=later,requested-size=0")]
            words += ["-device", device("virtio-balloon", "id=balloon")]
        }
        return words
    }

    /// The device that memory comes by, for QMP.
    static let growingDevice = "growing"

    /// MiB that may come, in virtio-mem's steps of 128: whole memory blocks of Linux (x86).
    var laterMemory: UInt64? { Self.laterMemory(of: spec) }

    static func laterMemory(of spec: MachineSpec) -> UInt64? {
        guard let growth = spec.growth else { return nil }
        let (most, megabytes) = (growth.memoryBytes >> 20, spec.wholeMemory >> 20)
        return max(1, (most > megabytes ? most - megabytes : 0) >> 7) << 7
    }

    private var room: String { laterMemory.map { "\(megabytes)M,slots=1,maxmem=\(megabytes + $0)M" } ?? "\(megabytes)M" }

    /// Processors that are there; the guest is told to begin with fewer (`maxcpus`), and others cost nothing until they are used.
    var processors: Int {
        guard let growth = spec.growth else { return spec.vcpus }
        // TCG divides the room for its translations among them.
        return max(spec.vcpus, min(growth.vcpus, accelerator == .tcg ? 8 : 64))
    }

    private func device(_ name: String, _ properties: String) -> String { "\(board.device(name)),\(properties)" }

    private var machine: String {
        switch board {
        case .microvm:
            // Without pit=off,pic=off a kernel that ACPI told to do without them dies of the old timer's first interrupt, which
            // nobody had programmed away from vector 0 ("divide error: 0000" in start_kernel). Without rtc it looks for one for 2 s.
            "microvm,acpi=on,pit=off,pic=off,rtc=on,pcie=off,usb=off,auto-kernel-cmdline=off,x-option-roms=off,memory-backend=memory"
                + restored
        case .q35: "q35,smm=off,vmport=off,usb=off,graphics=off,memory-backend=memory" + restored
        }
    }

    // Nor does the state end with a description of itself.
    private var restored: String { incoming == nil ? "" : ",suppress-vmdesc=on" }

    // Unless told, TCG lets its translations grow to 1 GiB, and a busy guest would end by the host's limit on its cgroup.
    private var acceleration: String { accelerator == .tcg ? "tcg,tb-size=\(Self.translationMegabytes)" : accelerator.rawValue }

    // TCG carries `rep movsb` out byte by byte. With "enhanced rep movsb" the guest's kernel and C library choose it for all that they
    // copy; without, they copy eight bytes and more at once: three times as much through a virtio port or a pipe (docs/performance.md).
    private var processor: String { accelerator == .kvm ? "host" : "max,-erms,-fsrm" }

    private var memory: String {
        if let memoryFile {
            // rom=off: the guest may write, though the file may not be written. A clone that gave memory back could not make holes in
            // the file either, which would change what all the others see (docs/adr/012).
            return "memory-backend-file,id=memory,size=\(megabytes)M,mem-path=\(memoryFile.path),"
                + (memoryFile.isPrivate ? "share=off,readonly=on,rom=off" : "share=on")
        }
        // Memory that no share server maps stays anonymous: a private mapping of a file in memory would hold each touched page twice.
        return "memory-backend-ram,id=memory,size=\(megabytes)M"
    }

    private func diskWords(_ disk: Disk, _ backing: DiskBacking, _ index: Int) -> [String] {
        let driver = backing.isBlockDevice ? "host_device" : "file"
        let access = disk.readOnly ? "read-only=on,auto-read-only=off" : "read-only=off,auto-read-only=off,discard=unmap"
        let set = index + 1
        return [
            "-add-fd", "fd=\(backing.descriptor),set=\(set)",
            "-blockdev",
            "driver=raw,node-name=disk\(index),\(access),file.driver=\(driver),file.filename=/dev/fdset/\(set)"
                + (disk.readOnly ? ",file.read-only=on" : ",file.discard=unmap"),
            // A full host disk is an error in the guest; by default QEMU would stop the machine, without a word.
            "-device", device("virtio-blk", "drive=disk\(index),serial=\(disk.name),werror=report,rerror=report"),
        ]
    }

    /// The kernel's command line. Each word earns its place: see docs/performance.md.
    var commandLine: [String] {
        var words = ["console=ttyS0", "quiet", "panic=-1", "reboot=t"]
        // The self-tests of the kernel's ciphers take 0.19 s under TCG.
        words += ["cryptomgr.notests=1", "random.trust_cpu=on", "no_timer_check"]
        if accelerator == .tcg, let tscKilohertz { words += ["tsc_early_khz=\(tscKilohertz)", "tsc=reliable"] }
        // The share's server writes programs into the guest's memory, which TCG does not see: of a page that had other code at the same address it would
        // run that. A page that the guest zeroes before is forgotten. (Debian's kernels do so by themselves.)
        if accelerator == .tcg, spec.share != nil { words.append("init_on_alloc=1") }
        if processors > spec.vcpus { words.append("maxcpus=\(spec.vcpus)") }
        // At most three times as much memory as the kernel can use for itself is kept movable, and can be given back whole.
        if laterMemory != nil { words += ["memhp_default_state=online", "memory_hotplug.online_policy=auto-movable"] }
        return words + spec.kernelArguments
    }
}

extension MachineSpec {
    /// Bytes of the guest's memory, in whole MiB.
    var wholeMemory: UInt64 { (memoryBytes + (1 << 20) - 1) & ~((1 << 20) - 1) }
}
