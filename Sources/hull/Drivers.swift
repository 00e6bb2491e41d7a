import Machines
import QEMUDriver

/// The only list of drivers.
enum Drivers {
    /// By the name that `--hypervisor` takes.
    static let all: [String: @Sendable () -> any Hypervisor] = [
        "qemu": { QEMU() }
    ]
}
