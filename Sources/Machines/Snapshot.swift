public import LinuxSystem

/// A saved machine: all that a driver needs to go on with it, besides a spec of the same shape.
public struct Snapshot: Sendable, Hashable {
    /// The file with the guest's memory, of exactly its size; empty where the driver has it in the state. Restoring never writes to it.
    public var memory: String
    /// What is different from that file, as `FileChanges`: each about the result of those before. None for a snapshot that is whole.
    public var changes: [String]
    /// The file with the devices' state.
    public var state: String
    /// What the driver noted when it saved, for itself.
    public var facts: [String: String]
    /// The folder of a machine that stands by where this one was saved, or further (`Waking`): what is restored is a copy of it. Nil: the files.
    public var awake: String?

    public init(memory: String, changes: [String] = [], state: String, facts: [String: String]) {
        self.memory = memory
        self.changes = changes
        self.state = state
        self.facts = facts
    }
}

/// How a running machine is saved, as often as one likes.
@Loop
public protocol Snapshotting: AnyObject, Sendable {
    /// Makes what a `save` will write smaller, where the driver writes memory that the guest does not use: the guest gives it back, as far as it can
    /// within some seconds, and what is restored has it again before it is anybody's. For a machine that is saved next and ends then.
    func shrink() async throws

    /// Writes the guest's memory to `memory` and the devices' state to `state`, two empty files open for reading and writing. With a `parent`,
    /// an older snapshot of a machine of the same size, `memory` only gets what is different there, as `FileChanges`. What can be
    /// copied while the guest runs is; then `before` is run, the guest stands still, and `still` is run: what the guest wrote to its disks
    /// is in their files then. Returns the snapshot's facts. Afterwards, and when it throws, the guest may stand still: `resume()` or
    /// `stop()` is the caller's.
    func save(
        memory: SharedDescriptor, state: SharedDescriptor, over parent: Snapshot?,
        beforeStill before: @Loop () async throws -> Void,
        whileStill still: @Loop () async throws -> Void
    ) async throws -> [String: String]
}

/// What a driver can that makes machines of saved ones, each with devices of its own.
public protocol Templating: Sendable {
    /// Words that name all that a saved machine and those restored from it must have in common: the VMM, the board, the processor, the
    /// memory, the devices' kinds and sizes, kernel, initramfs, the files that every one of them has (`Disk.isFixed`). Two specs with
    /// the same words are of one shape. Throws where a machine of `spec` cannot be restored at all.
    func shape(of spec: MachineSpec) throws -> [String]

    /// Says why a machine of `spec` cannot be made and saved on this host beside those that people want, if so. May run programs.
    @Loop func check(_ spec: MachineSpec) async throws

    /// What keeps one of them awake, for copies; nil for a driver that cannot.
    var waking: (any Waking)? { get }
}

/// What a driver can that makes copies of a machine that stands by: what its hypervisor has learnt of the guest's code is then there
/// already.
public protocol Waking: Sendable {
    /// Whether a machine of `spec` is sooner there as a copy than from its files.
    func gains(_ spec: MachineSpec) -> Bool

    /// Restores `snapshot`, has `rehearse` bring the machine to where its copies are to begin, stands it still, and has copies made by everybody
    /// who restores with `Snapshot.awake` = `place`, an empty folder that only its owner may enter, until `wait` returns. Call it in
    /// a mount and a network namespace of its own, but in a pid namespace that is above those of whoever wants copies.
    @Loop func keepAwake(
        _ spec: MachineSpec, _ snapshot: Snapshot, at place: String, in directory: MachineDirectory,
        rehearse: @Loop (any VirtualMachine) async throws -> Void, until wait: @Loop (any VirtualMachine) async throws -> Void
    ) async throws
}
