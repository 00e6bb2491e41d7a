import Glibc
import LinuxSystem
import Machines

/// Whether the host's KVM truly works. /dev/kvm can exist, open and create a machine, and still never run a stock kernel,
/// so the CPU's flag is required too.
struct KVMState: Hashable, Sendable {
    /// `vmx` or `svm` among the CPU's flags.
    var hasCPUFlag: Bool
    /// What opening /dev/kvm and asking it gave: nil when it answered as it must.
    var failure: String?

    var works: Bool { hasCPUFlag && failure == nil }

    /// Why it does not work, with the remedy.
    var explanation: String {
        if let failure { return failure }
        if !hasCPUFlag {
            return
                "the CPU shows neither vmx nor svm: turn virtualisation on in the firmware, or allow nesting in the outer hypervisor"
        }
        return "KVM works"
    }

    /// Looks at this host.
    static func probe() -> KVMState {
        // An unreadable cpuinfo shows no flag.
        let text = (try? readText("/proc/cpuinfo")) ?? ""
        return KVMState(hasCPUFlag: hasFlag(text), failure: askDevice())
    }

    /// Whether the first `flags` line of a /proc/cpuinfo names hardware virtualisation.
    static func hasFlag(_ cpuinfo: String) -> Bool {
        guard let line = cpuinfo.split(separator: "\n").first(where: { $0.hasPrefix("flags") }) else { return false }
        return line.split(separator: " ").contains { $0 == "vmx" || $0 == "svm" }
    }

    // KVM_GET_API_VERSION and KVM_CREATE_VM (Documentation/virt/kvm/api.rst, 4.1 and 4.2).
    private static func askDevice() -> String? {
        let device: OwnedDescriptor
        do { device = try openFile("/dev/kvm", O_RDWR) } catch {
            return
                "/dev/kvm cannot be opened (\(String(cString: strerror(error.code)))): load kvm_intel or kvm_amd, and join the group kvm"
        }
        guard ioctl(device.raw, 0xAE00, 0) == 12 else { return "/dev/kvm does not speak version 12 of KVM's interface" }
        let machine = ioctl(device.raw, 0xAE01, 0)
        if machine < 0 { return "KVM makes no machine (\(String(cString: strerror(errno))))" }
        close(machine)
        return nil
    }
}

/// What runs a machine's instructions, decided.
enum ResolvedAccelerator: String, Hashable, Sendable {
    case kvm, tcg

    /// Decides. `kvm` by name is tried wherever the device answers, whatever the CPU's flags say: the user knows better.
    static func resolve(_ wanted: MachineSpec.Accelerator, _ kvm: @autoclosure () -> KVMState) throws(MachineError) -> Self {
        switch wanted {
        case .tcg: return .tcg
        case .auto: return kvm().works ? .kvm : .tcg
        case .kvm:
            if let failure = kvm().failure {
                throw MachineError(
                    .acceleratorUnusable, "KVM was asked for and does not work here: \(failure); or leave --accel out")
            }
            return .kvm
        }
    }
}
