import CGuest

/// PID 1 of a stubdomain: starts the QEMU that is its domain's device model, and ends with it.
@main
enum HullStubInit {
    static func main() {
        guest_signal(SIGPIPE, 1)
        do throws(Failure) {
            try prepare()
            try DeviceModel().run()
        } catch {
            say(error.message)
        }
        guest_power_off()
    }

    /// Mounts the kernel's filesystems and loads the modules of the ramdisk.
    private static func prepare() throws(Failure) {
        for (name, type) in [("/dev", "devtmpfs"), ("/proc", "proc"), ("/sys", "sysfs")] {
            let done = guest_mount(type, name, type, UInt(MS_NOSUID), nil)
            // A kernel may have mounted its devices already.
            if done < 0, done != -EBUSY { throw Failure("mounting \(name): \(KernelError(-done).words)") }
        }
        for line in Scan.split(TextFile.read("/modules/order"), 10) where !line.isEmpty {
            let name = Scan.text(line)
            // Since 6.1.168 a domain's programs may only ask Xen of the domain that the kernel was told of, and QEMU's libraries ask of none to find
            // out what there is (DOMID_INVALID). Whom this domain may ask of is Xen's to say.
            let parameters = name.utf8.starts(with: "xen_privcmd".utf8) ? "unrestricted=1" : ""
            do throws(KernelError) {
                let file = try Descriptor("/modules/" + name, O_RDONLY)
                let done = guest_load_module(file.number, parameters)
                if done < 0, done != -EEXIST { throw KernelError(-done) }
            } catch {
                say("module \(name): \(error.words)")
            }
            _ = unlink("/modules/" + name)  // the ramdisk is memory
        }
    }
}

/// Says something on the console, which the toolstack writes to a log.
func say(_ line: String) {
    let bytes = Array(("hull-stub-init: " + line + "\n").utf8)
    _ = bytes.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
}
