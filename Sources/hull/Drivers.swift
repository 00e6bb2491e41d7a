import Machines
import QEMUDriver
import XenDriver

/// The only list of drivers.
enum Drivers {
    /// By the name that `--hypervisor` takes.
    static let all: [String: @Sendable () -> any Hypervisor] = [
        "qemu": { QEMU() }, "xen": { Xen() },
    ]

    /// The one that is taken unless told: Xen in a Dom0, where a KVM cannot be.
    static var standard: String { Xen.isHere ? "xen" : "qemu" }
}
