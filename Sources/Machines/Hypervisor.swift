public import LinuxSystem

/// A way to run machines: implemented by each driver, used by the engine through this protocol only.
@Loop
public protocol Hypervisor: Sendable {
    /// What the planner may know. Immutable; the engine never asks a driver what it is.
    nonisolated var traits: HypervisorTraits { get }

    /// Says what is missing on this host. Throws a `MachineError` with the remedy for the first thing without which no
    /// machine runs; returns remarks about what works less well than it could (for `hull doctor`).
    func check() async throws -> [String]

    /// How a machine of `spec` will look from inside. Pure; `spec.initramfs` need not be known yet. Throws when the driver
    /// cannot honour a device.
    nonisolated func layout(of spec: MachineSpec) throws -> GuestLayout

    /// Whether and how machines are made from saved ones; nil for a driver that cannot.
    nonisolated var templating: (any Templating)? { get }

    /// What takes away a machine that outlived its monitor; nil for a driver whose machines are processes of the monitor's.
    nonisolated var reclaiming: (any Reclaiming)? { get }

    /// Starts a machine, runs `body` with it, and ends the machine with it: when this returns or throws, no process, mount
    /// or descriptor of the machine is left. The guest already runs when `body` is called.
    func withMachine<R: Sendable>(
        _ source: MachineSource, in directory: MachineDirectory,
        _ body: @Loop (any VirtualMachine) async throws -> R
    ) async throws -> R
}

/// What is true of a driver wherever it runs.
public struct HypervisorTraits: Sendable, Hashable {
    /// As `--hypervisor` names it.
    public var name: String
    /// The host's overhead of one machine besides the guest's memory, in bytes: added to a container's memory limit.
    public var overheadBytes: UInt64

    /// What a NIC's host end must be.
    public var nicEnd: NICEnd

    /// Whether a machine can be left standing for the next monitor (`VirtualMachine.parking`).
    public var canPark: Bool

    public init(name: String, overheadBytes: UInt64, nicEnd: NICEnd = .tap, canPark: Bool = false) {
        self.canPark = canPark
        self.name = name
        self.overheadBytes = overheadBytes
        self.nicEnd = nicEnd
    }

    /// Who makes the host's interface of a NIC: whoever plans the machine, as a tap; or the driver.
    public enum NICEnd: Sendable { case tap, interface }
}

/// What a machine is made from.
public enum MachineSource: Sendable {
    /// A cold boot.
    case boot(MachineSpec)
    /// A machine that was saved, which goes on where it was, with the devices of the spec behind those that it knows: the spec is of the
    /// saved one's shape (`Templating.shape`). The guest keeps the saved one's MAC addresses, clock and secrets until its agent gives
    /// it others. `snapshot.memory` is mapped privately, or copied where a share server must see it.
    case restore(MachineSpec, Snapshot)
    /// One that waits since it was parked, with its memory as it was and without devices of anybody's; it is given those of the spec.
    case parked(MachineSpec, ParkedMachine)
}

/// A folder of the machine's own on the host, mode 0700, made by the caller and empty. What the driver puts there is gone
/// when `withMachine` ends; what a killed monitor left there holds nothing but plain files and empty folders.
public struct MachineDirectory: Sendable, Hashable {
    public var path: String
    public init(_ path: String) { self.path = path }
}

/// A running machine.
@Loop
public protocol VirtualMachine: AnyObject, Sendable {
    /// How each device looks from inside.
    nonisolated var guest: GuestLayout { get }

    /// The host processes of the machine: the VMM first, then its helpers. For statistics and for the ledger.
    var processes: [MachineProcess] { get }

    /// The byte stream to the agent, non-blocking. There is one; the descriptor is the same each time. What is written before the guest
    /// opens its end waits there (bounded by the socket's buffer).
    func connect() async throws -> SharedDescriptor

    /// Stands the guest still, at once and completely. Pausing what is paused is no error.
    func pause() async throws
    /// Lets it go on.
    func resume() async throws

    /// How to save it; nil for a machine that cannot be saved.
    var snapshotting: (any Snapshotting)? { get }

    /// Ends the machine: waits up to `grace` for the guest's own end, which the caller has asked the agent for, then ends the VMM.
    /// `.zero` ends it at once. Always returns with the machine stopped; stopping what has ended is no error.
    func stop(grace: Duration) async

    /// Waits for the end, whatever its reason. May be called by several tasks, and after the end.
    func wait() async -> MachineExit

    /// What shows more of the host in the running machine's share; nil where the driver cannot, or the spec did not ask.
    var sharing: (any Sharing)? { get }

    /// What gives the running machine more or less; nil where the driver cannot, or the spec did not ask (`MachineSpec.growth`).
    var resizing: (any Resizing)? { get }

    /// What plugs devices in and out while it runs; nil where the driver cannot.
    var plugging: (any Plugging)? { get }

    /// What leaves it standing still, to be gone on with by another monitor; nil where it ends with the one that made it.
    var parking: (any Parking)? { get }

    /// The last of the guest's console, at most `lines` lines.
    func consoleTail(lines: Int) -> String
}

/// Takes away what a machine left that was not a process of its monitor's, and so did not end with it.
public protocol Reclaiming: Sendable {
    /// Ends the machine of the spec's `id`, whatever state it is in, and returns when nothing of it is left. None is fine.
    @Loop func reclaim(_ id: String) async throws
}

/// More and less of what a running machine computes with.
@Loop
public protocol Resizing: AnyObject, Sendable {
    /// Modules without which the guest takes no more and gives nothing back; its agent loads them before the first `resize`.
    nonisolated var modules: [String] { get }

    /// Makes the machine have that many bytes of memory, in steps of some MiB, within what its spec allows. Returns what it has when it is
    /// done, or after some seconds: a guest gives back what it can spare. Its processors are its agent's to take and leave
    /// (`AgentConnection.resize`), within `MachineSpec.growth`.
    func resize(memory bytes: UInt64) async throws -> UInt64
}

/// More for a running machine's share.
@Loop
public protocol Sharing: AnyObject, Sendable {
    /// The folder of the share in which it appears.
    nonisolated var folder: String { get }
    /// Shows folders and files there, under names that nobody has. Each comes as a detached copy of its mount (open_tree(2)), because the
    /// caller's mount namespace may not see it; the entry's path is for messages.
    func show(_ entries: [(entry: ShareEntry, tree: SharedDescriptor)]) async throws
    /// Takes them away again, as far as the guest lets go of them.
    func hide(_ names: [String]) throws
}

/// A process of a machine on the host.
public struct MachineProcess: Sendable, Hashable {
    /// What it is: `qemu`, `virtiofsd`.
    public var role: String
    public var identity: ProcessIdentity

    public init(role: String, identity: ProcessIdentity) {
        self.role = role
        self.identity = identity
    }
}

/// How a machine ended.
public struct MachineExit: Sendable, Hashable {
    public var reason: Reason
    /// The last lines of the guest's console.
    public var consoleTail: String
    /// The last of the VMM's (and its helpers') standard error; empty when it had nothing to say.
    public var complaints: String

    public init(reason: Reason, consoleTail: String, complaints: String) {
        self.reason = reason
        self.consoleTail = consoleTail
        self.complaints = complaints
    }

    public enum Reason: Sendable, Hashable {
        /// The guest powered itself off.
        case poweredOff
        /// The guest asked for a reset, which ends a machine. It is how an agent ends one on every board: a microvm that powers off
        /// stays as a halted QEMU.
        case reset
        /// The guest's kernel panicked.
        case panicked
        /// `stop` ended it.
        case stopped
        /// The VMM ended by itself, or somebody killed it.
        case vmmDied(ExitStatus)
        /// Somebody took the machine away, behind its owner's back.
        case destroyed
        /// A helper without which the machine cannot go on ended; the machine was ended too.
        case helperDied(role: String, ExitStatus)
    }
}
