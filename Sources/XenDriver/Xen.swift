import Glibc
import LinuxSystem
public import Machines

/// The driver for Xen, by `xl`: each machine is a DomU. It works in a Dom0 only.
public struct Xen: Hypervisor {
    // A domain's memory is Xen's, none of the Dom0's; `xl create` needs some for a moment.
    public let traits = HypervisorTraits(name: "xen", overheadBytes: 64 << 20, nicEnd: .interface)

    /// Looks for nothing yet.
    public nonisolated init() {}

    /// Whether this host is a Dom0 of Xen's.
    public nonisolated static var isHere: Bool {
        // Without Xen there is no such file.
        ((try? readText("/proc/xen/capabilities")) ?? "").split(whereSeparator: \.isWhitespace).contains("control_d")
    }

    public func check() async throws -> [String] {
        guard Self.isHere else {
            throw MachineError(
                .missing, "this host is no Dom0 (/proc/xen/capabilities): install xen-system-amd64 and boot it under Xen")
        }
        let toolstack = try Toolstack.find()
        for (path, module) in [
            ("/dev/xen/gntdev", "xen-gntdev"), ("/dev/xen/evtchn", "xen-evtchn"), ("/dev/loop-control", "loop"),
        ] where access(path, R_OK | W_OK) != 0 {
            throw MachineError(.missing, "\(path) is missing, which domains are served by: modprobe \(module)")
        }
        do { _ = try await Store.connect().list("/local/domain") } catch {
            throw MachineError(.missing, "Xen's store does not answer: start Debian's service xen", cause: error)
        }
        let facts = try await toolstack.facts()
        let abilities = facts["virt_caps"] ?? ""
        var remarks = [
            "Xen \(facts["xen_version"] ?? "of an unknown version") by \(toolstack.program), which can run: \(abilities)",
            "\(facts["free_memory"] ?? "?") MiB of memory are free for domains",
            "domains share no folders with the host yet: bind mounts, volumes and rootfs: are refused",
        ]
        if !Self.hasHardware {
            remarks.append(
                "no hardware-assisted domains: machines are PV, which Xen's makers advise against for what is not trusted")
        }
        if access("/sys/module/xen_netback", F_OK) != 0 { remarks.append("only --network none works yet: modprobe xen-netback") }
        return remarks
    }

    /// Whether domains can be hardware-assisted (HVM, PVH).
    nonisolated static var hasHardware: Bool {
        // Not readable, not there.
        ((try? readText("/sys/hypervisor/properties/capabilities")) ?? "").contains("hvm-")
    }

    public nonisolated func layout(of spec: MachineSpec) throws -> GuestLayout { try GuestLayout(xen: spec) }

    public nonisolated var templating: (any Templating)? { nil }

    public nonisolated var reclaiming: (any Reclaiming)? {
        // Where there is no xl any more, there are no domains that it made.
        (try? Toolstack.find()).map { Reclaimer(toolstack: $0) }
    }

    public func withMachine<R: Sendable>(
        _ source: MachineSource, in directory: MachineDirectory, _ body: @Loop (any VirtualMachine) async throws -> R
    ) async throws -> R {
        guard case .boot(let spec) = source else {
            throw MachineError(.unsupported, "Xen's domains are not restored yet: snapshots and forks need --hypervisor qemu")
        }
        let domain = try Domain(spec, try DomainPlan(spec, hasHardware: Self.hasHardware), try Toolstack.find(), in: directory)
        do {
            try await domain.begin()
            let result = try await body(domain)
            await domain.stop(grace: .zero)
            return result
        } catch {
            await domain.stop(grace: .zero)
            throw error
        }
    }
}
