import Glibc
import HostNetwork
public import LinuxSystem
public import Machines

/// One thing that was looked at on this host.
public struct Finding: Sendable {
    public enum Level: String, Sendable {
        case good, remark, missing
    }
    public var level: Level
    public var subject: String
    /// What is so; where it is not good, with the remedy.
    public var text: String
}

/// What `hull doctor` looks at: every program, device and kernel feature that some verb needs.
public struct Examination: Sendable {
    private let roots: Roots
    private let drivers: [String: @Sendable () -> any Hypervisor]

    private let standard: String

    /// `standard` is the driver that is taken unless told: what it needs must be there, others may be missing.
    public init(roots: Roots, drivers: [String: @Sendable () -> any Hypervisor], standard: String) {
        self.roots = roots
        self.drivers = drivers
        self.standard = standard
    }

    /// Programs by what needs them, and the Debian package that has them.
    private static let programs: [(name: String, need: String, package: String, vital: Bool)] = [
        ("skopeo", "pulling images", "skopeo", true), ("mkfs.erofs", "building root images", "erofs-utils", true),
        ("mkfs.ext4", "writable disks", "e2fsprogs", true), ("nft", "the bridge network", "nftables", false),
    ]

    /// Looks at everything.
    @Loop
    public func findings() async -> [Finding] {
        var all: [Finding] = []
        if geteuid() != 0 { all.append(Finding(level: .missing, subject: "user", text: "hull needs root: run it with sudo")) }
        for (name, make) in drivers.sorted(by: { $0.key < $1.key }) {
            do {
                let remarks = try await make().check()
                all.append(Finding(level: .good, subject: name, text: "machines can run"))
                all += remarks.map { Finding(level: .remark, subject: name, text: $0) }
            } catch {
                all.append(Finding(level: name == standard ? .missing : .remark, subject: name, text: "\(error)"))
            }
        }
        do {
            all.append(Finding(level: .good, subject: "kernel", text: try await Booting.describeKernel(roots)))
        } catch {
            all.append(Finding(level: .missing, subject: "kernel", text: "\(error)"))
        }
        if standard == "xen" { all.append(Booting.describeStubdomain(roots)) }
        for program in Self.programs {
            let found = HostProgram.path(program.name) != nil
            all.append(
                Finding(
                    level: found ? .good : program.vital ? .missing : .remark, subject: program.name,
                    text: found ? "\(program.need) works" : "\(program.need) needs it: apt-get install \(program.package)"))
        }
        if access("/dev/net/tun", R_OK | W_OK) != 0 {
            all.append(
                Finding(
                    level: .remark, subject: "network",
                    text:
                        "/dev/net/tun cannot be used, so that only --network none works: modprobe tun, and give this container or machine the device"
                ))
        }
        if !Cgroup("hull/doctor").isSupported {
            all.append(
                Finding(
                    level: .remark, subject: "cgroups",
                    text: "no cgroups are mounted at /sys/fs/cgroup: machines are not bounded on the host"))
        }
        return all
    }
}
