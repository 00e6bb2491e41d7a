public import LinuxSystem

/// A saved machine: all that a driver needs to go on with it, besides a spec of the same shape.
public struct Snapshot: Sendable, Hashable {
    /// The file with the guest's memory, of exactly its size. Restoring never writes to it.
    public var memory: String
    /// The file with the devices' state.
    public var state: String
    /// What the driver noted when it saved, for itself.
    public var facts: [String: String]

    public init(memory: String, state: String, facts: [String: String]) {
        self.memory = memory
        self.state = state
        self.facts = facts
    }
}

/// What a machine can that was booted with its memory in a file (`MachineSpec.memoryFile`).
@Loop
public protocol Snapshotting: AnyObject, Sendable {
    /// Stands the guest still for good and writes the devices' state to `state`, open for writing and empty; the memory file holds the
    /// rest then. Returns the snapshot's facts. The machine can only be stopped afterwards.
    func save(to state: SharedDescriptor) async throws -> [String: String]
}

/// What a driver can that makes several machines of one saved one, each with devices of its own.
public protocol Templating: Sendable {
    /// Words that name all that a saved machine and those restored from it must have in common: the VMM, the board, the processor, the
    /// memory, the devices' kinds and sizes, kernel, initramfs, the files that every one of them has (`Disk.isFixed`). Two specs with
    /// the same words are of one shape. Throws where a machine of `spec` cannot be restored at all.
    func shape(of spec: MachineSpec) throws -> [String]

    /// Says why machines cannot be saved on this host, if so. May run programs.
    @Loop func check() async throws
}
