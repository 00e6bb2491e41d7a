/// What the host and the program in a stubdomain agree on, beyond what Xen's toolstack says (xen/docs/misc/stubdom.txt, "Toolstack to Linux
/// ioemu stubdomain protocol").
public enum Stubdomain {
    /// Where the guest's kernel and initramfs are in the stubdomain's ramdisk.
    public static let folder = "/hull"
    public static let kernel = "/hull/kernel"
    public static let initramfs = "/hull/initramfs"
    /// QEMU, in the ramdisk as on a Debian host.
    public static let program = "/usr/libexec/xen-qemu-system-i386"

    /// The stubdomain's folder for a domain's device model, relative to its own in Xen's store.
    public static func folder(of target: String) -> String { "device-model/\(target)" }
    /// The name there under which the stubdomain writes `ready` once its QEMU serves the domain, or why it never will.
    public static let readiness = "hull"
    public static let ready = "ready"
}
