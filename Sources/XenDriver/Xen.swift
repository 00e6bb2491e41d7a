import Glibc
import LinuxSystem
import MachineProcesses
public import Machines

/// The driver for Xen, by `xl`: each machine is a DomU. It works in a Dom0 only.
public struct Xen: Hypervisor {
    // A domain's memory is Xen's, none of the Dom0's; `xl create` needs some for a moment.
    public let traits = HypervisorTraits(name: "xen", overheadBytes: 64 << 20, nicEnd: .interface, canPark: true)

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
        let report = HostReport(
            facts: try await toolstack.facts(), program: toolstack.program, possible: Self.possible,
            modules: Set(HostReport.modules.filter { access("/sys/module/\($0)", F_OK) == 0 }),
            hasConsoleDaemon: Self.runs("xenconsoled"), hasShareServer: ShareServerProgram.find() != nil,
            lackingEmulation: HostReport.emulation.filter { access($0.0, F_OK) != 0 }.map(\.1))
        try report.check()
        return report.remarks
    }

    /// Whether a process of this name runs.
    nonisolated private static func runs(_ name: String) -> Bool {
        // A process that ends while it is looked at is none.
        ((try? listDirectory("/proc")) ?? []).contains { (try? readText("/proc/\($0)/comm")) == name + "\n" }
    }

    /// Which types domains can be of.
    nonisolated static var possible: Set<DomainConfiguration.Kind> {
        // Not readable, not there.
        DomainConfiguration.Kind.possible((try? readText("/sys/hypervisor/properties/capabilities")) ?? "")
    }

    public nonisolated func layout(of spec: MachineSpec) throws -> GuestLayout { try GuestLayout(xen: spec) }

    public nonisolated var templating: (any Templating)? { XenTemplating() }

    public nonisolated var reclaiming: (any Reclaiming)? {
        // Where there is no xl any more, or the host was booted without Xen, there are no domains that it made.
        Toolstack.isXenRunning ? (try? Toolstack.find()).map { Reclaimer(toolstack: $0) } : nil
    }

    public func withMachine<R: Sendable>(
        _ source: MachineSource, in directory: MachineDirectory, _ body: @Loop (any VirtualMachine) async throws -> R
    ) async throws -> R {
        let spec: MachineSpec
        var origin: String?
        switch source {
        case .boot(let wanted), .restore(let wanted, _): spec = wanted
        case .parked(let wanted, let parked): (spec, origin) = (wanted, parked.id)
        }
        var plan = try DomainPlan(spec, possible: Self.possible)
        if case .restore(_, let snapshot) = source { try plan.check(snapshot) }
        let files = try await SavedFiles.find(in: source)
        if let origin { plan.uuid = DomainPlan.uuid(of: origin) ?? plan.uuid }
        let domain = try Domain(
            spec, madeAs: origin ?? spec.id, isRestored: files != nil, plan, try Toolstack.find(), in: directory)
        do {
            try await domain.begin(source, knowing: files)
            let result = try await body(domain)
            await domain.stop(grace: .zero)
            return result
        } catch {
            await domain.stop(grace: .zero)
            throw error
        }
    }
}
