import CLinux
import Glibc
public import LinuxSystem

/// Taps: an interface whose frames a process reads and writes (Documentation/networking/tuntap.rst).
public enum Tap {
    /// Makes the tap `name` in `namespace` (or where the calling thread is) and opens it, with a virtio-net header before
    /// each frame. The kernel removes it when the last copy of the descriptor is closed. Throws EBUSY when another process
    /// has that name. Needs CAP_NET_ADMIN.
    public static func open(_ name: String, in namespace: NetworkNamespace? = nil) throws
        -> SharedDescriptor
    {
        guard (1...15).contains(name.utf8.count) else {
            throw SystemError("name a network interface", name, code: EINVAL)
        }
        func open() throws -> SharedDescriptor {
            // The namespace of a tap is that of the thread which opened the device.
            let device = SharedDescriptor(try openFile("/dev/net/tun", O_RDWR | O_NONBLOCK))
            try checked("make the tap", name) {
                // IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL: never somebody else's.
                hull_ioctl_tun_set(device.raw, name, Int16(bitPattern: 0xd002))
            }
            return device
        }
        return try namespace.map { try $0.inside(open) } ?? open()
    }
}
