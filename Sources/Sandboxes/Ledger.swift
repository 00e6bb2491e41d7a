import FoundationEssentials
import Glibc
import HostNetwork
public import LinuxSystem
public import Machines

/// Something on the host that a sandbox holds and that the kernel would not take back by itself.
public enum HostResource: Codable, Hashable, Sendable {
    /// A range of user ids: the file that reserves it, with its owner's name in it.
    case identifiers(file: String, owner: String)
    case cgroup(path: String)
    /// The cgroup that a container engine named, in every hierarchy.
    case engineCgroup(path: String)
    /// Tap, bridge port, rules, published ports: what `HostNetwork` made under this key.
    case network(key: String)
    /// A folder: it goes in one step, as others see it.
    case folder(String)
    /// A machine that is no process of the monitor's, as a driver's `reclaiming` knows it.
    case machine(hypervisor: String, id: String)
}

/// The list of what a sandbox holds, on disk: the intent is written before a thing is made, and the entry goes when the thing
/// is gone. Whoever finds it without a monitor walks it backwards (`undoAll`); every undo may run twice.
///
/// The file has one JSON line for each event, appended with one write(2): a SIGKILL leaves whole lines.
@Loop
public final class Ledger {
    private enum Event: Codable {
        case intend(Int, HostResource)
        case gone(Int)
    }

    private let path: String
    private let network: HostNetwork
    private let drivers: Drivers
    private let file: SharedDescriptor
    private var entries: [(key: Int, resource: HostResource)] = []
    private var next = 0

    /// Drivers, as `--hypervisor` names them.
    public typealias Drivers = [String: @Sendable () -> any Hypervisor]

    /// Opens the ledger of a container, making it where there is none, and reads what it holds. `drivers` take machines back.
    public init(_ paths: ContainerPaths, drivers: Drivers = [:]) throws {
        self.drivers = drivers
        path = paths.ledger
        network = paths.roots.network
        file = SharedDescriptor(try openFile(path, O_RDWR | O_CREAT | O_APPEND))
        for line in try readFile(file.raw, path).split(separator: UInt8(ascii: "\n")) {
            // A line that was cut short by a full disk names nothing that was made: its writer failed before making it.
            guard let event = try? JSONDecoder().decode(Event.self, from: Data(line)) else { continue }
            switch event {
            case .intend(let key, let resource):
                entries.append((key, resource))
                next = max(next, key + 1)
            case .gone(let key):
                entries.removeAll { $0.key == key }
            }
        }
    }

    /// What is held now, oldest first.
    public var held: [HostResource] { entries.map(\.resource) }

    /// Notes the intent and makes the thing; when making it fails, undoes it and throws what failed.
    public func hold<R>(_ resource: HostResource, _ make: () async throws -> R) async throws -> R {
        let key = try note(resource)
        Fault.point("intend:\(resource.kind)")
        do {
            let made = try await make()
            Fault.point("made:\(resource.kind)")
            return made
        } catch {
            let cause = error
            do {
                try await undo(key, resource)
            } catch {
                throw SandboxError("\(cause) (and taking it back failed: \(error))", cause: nil)
            }
            throw cause
        }
    }

    /// Takes everything back, newest first. What fails stays in the ledger, for the next verb; the first failure is thrown.
    public func undoAll() async throws {
        var first: (any Error)?
        for (key, resource) in entries.reversed() {
            // The ledger lies in the folder, which goes with what it names only.
            if first != nil, case .folder = resource { continue }
            do { try await undo(key, resource) } catch { first = first ?? error }
        }
        if let first { throw first }
    }

    /// The cgroup that an engine named, where one is held.
    var engineCgroup: Cgroup? {
        for case .engineCgroup(let path) in held { return Cgroup(everywhere: path) }
        return nil
    }

    /// Takes those back that `chosen` names; the rest stays held. `beside` a machine that still runs.
    func undo(beside isRunning: Bool = false, where chosen: (HostResource) -> Bool) async throws {
        for (key, resource) in entries.reversed() where chosen(resource) { try await undo(key, resource, beside: isRunning) }
    }

    private func note(_ resource: HostResource) throws -> Int {
        let key = next
        next += 1
        try append(.intend(key, resource))
        entries.append((key, resource))
        return key
    }

    private func undo(_ key: Int, _ resource: HostResource, beside isRunning: Bool = false) async throws {
        Fault.point("undo:\(resource.kind)")
        try await resource.undo(network, drivers, beside: isRunning)
        entries.removeAll { $0.key == key }
        // The ledger itself may lie in what was just removed.
        if exists(path) { try append(.gone(key)) }
        Fault.point("undone:\(resource.kind)")
    }

    private func append(_ event: Event) throws {
        try writeFile(file.raw, path, Array(try JSONEncoder().encode(event)) + [UInt8(ascii: "\n")])
    }
}

extension HostResource {
    /// A word for tests that kill at a step.
    var kind: String {
        switch self {
        case .identifiers: "identifiers"
        case .cgroup, .engineCgroup: "cgroup"
        case .network: "network"
        case .folder: "folder"
        case .machine: "machine"
        }
    }

    /// Takes it back. It may be gone already, or never have been made. `beside` a machine that still runs.
    @Loop
    func undo(_ network: HostNetwork, _ drivers: Ledger.Drivers, beside isRunning: Bool = false) async throws {
        switch self {
        case .identifiers(let file, let owner):
            // The intent may have been written and the range then taken by somebody else.
            if Identifiers.owner(of: file) == owner { unlink(file) }
        case .engineCgroup(let path): try Cgroup(everywhere: path).remove()
        case .cgroup(let path): try Cgroup(path).remove(withParent: true)
        case .network(let key): try await network.detach(key, tapStays: isRunning)
        case .machine(let hypervisor, let id):
            guard let driver = drivers[hypervisor]?() else {
                throw SandboxError(
                    "the machine of sandbox \(id.prefix(12)) cannot be taken back: this program has no driver \"\(hypervisor)\"")
            }
            try await driver.reclaiming?.reclaim(id)
        case .folder(let path): try ContainerPaths.removeWhole(path)
        }
    }
}
