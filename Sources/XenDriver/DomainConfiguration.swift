import Machines

/// What `xl create` is told of a domain, as text in xl.cfg(5)'s form. Pure.
struct DomainConfiguration: Hashable, Sendable {
    /// How the guest's kernel is started.
    enum Kind: String, Sendable {
        case pv, pvh, hvm

        /// Those that a Xen of these capabilities runs (xen_caps of xl info): on Arm there is one type, which xl calls PVH (xl.cfg(5), "type").
        static func possible(_ capabilities: String) -> Set<Kind> {
            if capabilities.contains("aarch64") { return [.pvh] }
            return capabilities.contains("hvm-") ? [.pv, .pvh, .hvm] : [.pv]
        }

        /// The place of the first disk. An HVM domain's first four are IDE disks too, which cannot be read-only, and nobody wants one twice
        /// (libxl__build_device_model_args_new of libxl_dm.c).
        var firstPlace: Int { self == .hvm ? 4 : 0 }
    }

    /// A disk, by its block device on the host: loop devices are made before.
    struct BlockDevice: Hashable, Sendable {
        /// As the guest calls it, e.g. `xvda`.
        var name: String
        var path: String
        var readOnly: Bool

        /// As xl-disk-configuration(5) has it. `target` takes all that follows: it is the last.
        var words: String {
            "format=raw,vdev=\(name),access=\(readOnly ? "ro" : "rw"),backendtype=phy,script=\(DomainConfiguration.script),target=\(path)"
        }
    }

    /// A NIC, as xl-network-configuration(5) has it. An HVM domain's is emulated too, unless it is said that it is not.
    static func words(nic mac: String, _ kind: Kind) -> String { "mac=\(mac),script=\(script)\(kind == .hvm ? ",type=vif" : "")" }

    var name: String
    var uuid: String
    var kind: Kind
    var megabytes: UInt64
    var vcpus: Int
    var kernel: String
    var initramfs: String
    var commandLine: [String]
    var disks: [BlockDevice]
    /// MAC addresses of network interfaces.
    var nics: [String]
    /// Where the device model of an HVM domain runs; its QEMU finds `kernel` and `initramfs` there.
    var stubdomain: Stubdomain?

    /// The domain of a device model.
    struct Stubdomain: Hashable, Sendable {
        var kernel: String
        var ramdisk: String
        var megabytes: UInt64

        static let commandLine = [
            "console=hvc0", "quiet", "panic=-1",
            // As its program says where this is a module (`hull-stub-init`).
            "xen_privcmd.unrestricted=1",
            // The toolstack gives it all its domain's disks and NICs, which nobody connects for it, and nobody there needs: a kernel with these drivers
            // built in would wait half a minute for them (boot_wait_for_devices of xenbus_probe_frontend.c).
            "initcall_blacklist=xlblk_init,netif_init",
        ]
    }

    /// What connects devices, in place of Xen's own scripts: nothing. Hull does it itself, in milliseconds, through the store.
    static let script = "/bin/true"

    /// The whole file. Throws where a text cannot be written in this form.
    func text() throws(MachineError) -> String {
        var lines = [
            "name = \(try Self.quoted(name))", "uuid = \(try Self.quoted(uuid))", "type = \(try Self.quoted(kind.rawValue))",
            "memory = \(megabytes)", "maxmem = \(megabytes)", "vcpus = \(vcpus)", "kernel = \(try Self.quoted(kernel))",
            "ramdisk = \(try Self.quoted(initramfs))", "cmdline = \(try Self.quoted(commandLine.joined(separator: " ")))",
        ]
        if let stubdomain {
            lines += [
                "device_model_version = \"qemu-xen\"", "device_model_stubdomain_override = 1",
                "stubdomain_kernel = \(try Self.quoted(stubdomain.kernel))",
                "stubdomain_ramdisk = \(try Self.quoted(stubdomain.ramdisk))",
                "stubdomain_cmdline = \(try Self.quoted(Stubdomain.commandLine.joined(separator: " ")))",
                "stubdomain_memory = \(stubdomain.megabytes)",
                // With that device QEMU takes an older machine's rules, which know no PVH entry; drivers of Xen's need it no more.
                "xen_platform_pci = 0", "vga = \"none\"", "nographic = 1", "vnc = 0", "usb = 0",
            ]
        }
        // It stays until we have seen how it ended, and take it away ourselves.
        lines += ["poweroff", "reboot", "crash", "watchdog", "soft_reset"].map { "on_\($0) = \"preserve\"" }
        if !disks.isEmpty {
            lines.append("disk = [")
            for disk in disks { lines.append("    " + (try Self.quoted(disk.words)) + ",") }
            lines.append("]")
        }
        if !nics.isEmpty {
            lines.append("vif = [")
            for mac in nics { lines.append("    " + (try Self.quoted(Self.words(nic: mac, kind))) + ",") }
            lines.append("]")
        }
        return lines.map { $0 + "\n" }.joined()
    }

    /// xl's strings know no escape for the quote that they end with.
    static func quoted(_ text: String) throws(MachineError) -> String {
        guard text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) else {
            throw MachineError(
                .unsupported, "xl cannot be told of '\(text)': no quotes, backslashes and control characters may be in it")
        }
        return "\"\(text)\""
    }
}
