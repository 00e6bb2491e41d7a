import CLinux
import FoundationEssentials
import Glibc
public import LinuxSystem
public import Machines
import Storage

/// Machines that stay when their container ends, for the next one of the same tenant: a note each, below the runtime folder, because no machine
/// outlives the host. Who holds a note's lock has the machine; a machine that nobody has waits until its time is over.
///
/// They are in no container's ledger: whose lock is free and whose note does not say that it waits has lost its monitor, and is taken away.
public struct ResidentStore: Sendable {
    private let roots: Roots
    private let folder: String
    let drivers: Ledger.Drivers

    /// Those below `roots`, of these drivers.
    public init(_ roots: Roots, drivers: Ledger.Drivers) {
        self.roots = roots
        folder = "\(roots.runtime)/residents"
        self.drivers = drivers
    }

    /// What is known of a resident machine.
    public struct Note: Codable, Hashable, Sendable {
        /// The tenant.
        public var name: String
        public var hypervisor: String
        /// The id that its driver takes it away by.
        public var machine: String
        /// What it is.
        public var shape: ResidentShape
        /// The container that has it, or had it last.
        public var container: String
        /// Set while it waits.
        public var parked: ParkedMachine?
        /// Until when it waits, nanoseconds since 1970.
        public var until: Int64 = 0
    }

    /// Takes what the tenant has, or may have, for a container. Throws where another container of the tenant's has it.
    @Loop func take(_ resident: ContainerRecord.Resident, for container: String) async throws -> Resident {
        guard Self.isName(resident.name) else { throw Self.badName(resident.name) }
        try makeDirectories(folder)
        let lock = try await acquire(resident.name)
        return Resident(self, resident, container, lock, try readNote(resident.name))
    }

    /// The lock. Whoever looks whether something is to be taken away has it for a moment; throws where a container has it.
    @Loop private func acquire(_ name: String) async throws -> FileLock {
        let deadline = ContinuousClock.now + .seconds(150)
        while true {
            if let lock = try attemptLock(name) { return lock }
            let note = try readNote(name)
            let isTaken = note.map { $0.parked == nil && FileLock.isHeld(roots.container($0.container).lock) } ?? false
            if isTaken || ContinuousClock.now > deadline {
                throw SandboxError(
                    "the resident machine \"\(name)\" has the container \(note?.container.prefix(12) ?? "another"): wait for its end, or stop it",
                    exitCode: 125)
            }
            try await sleep(for: .milliseconds(20))
        }
    }

    /// All. One that goes meanwhile is none.
    public func list() throws -> [Note] { try names().compactMap { try readNote($0) } }

    /// Takes away those whose time is over, and what dead monitors left; what cannot be is told to `complain`. Returns when the next one's time
    /// is over (nanoseconds since 1970; the far future where all are taken), or nil where there is none left.
    @Loop @discardableResult
    public func collect(_ complain: (String) -> Void) async throws -> Int64? {
        var next: Int64?
        for name in try names() {
            guard let lock = try attemptLock(name) else {
                next = next ?? .max
                continue
            }
            defer { withExtendedLifetime(lock) {} }
            if let note = try readNote(name), note.parked != nil, note.until > Timestamp.now.nanoseconds {
                next = min(next ?? .max, note.until)
                continue
            }
            do { try await remove(name) } catch { complain("the resident machine \"\(name)\" cannot be taken away: \(error)") }
        }
        return next
    }

    /// Takes one away that waits. Throws where there is none, or a container has it.
    @Loop public func end(_ name: String) async throws {
        guard Self.isName(name), exists(noteFile(name)) else {
            throw SandboxError("No such resident machine: \(name)", exitCode: 1)
        }
        let lock = try await acquire(name)
        defer { withExtendedLifetime(lock) {} }
        try await remove(name)
    }

    /// Held by who watches over those that wait.
    public func attemptKeeping() throws -> FileLock? {
        try makeDirectories(folder)
        return try FileLock.attempt("\(folder)/.keeper")
    }

    /// Whether there are any, at the cost of one look.
    public func areThere() throws -> Bool { try !names().isEmpty }

    /// Tells when a note changed.
    public func watch() throws -> FolderWatch { try FolderWatch(folder) }

    /// Whether a tenant can be called so: the name is a file's.
    public static func isName(_ name: String) -> Bool { Volumes.isName(name) && name.utf8.count <= 64 }

    /// What is said of a name that is none.
    public static func badName(_ name: String) -> SandboxError {
        SandboxError(
            "\"\(name)\" cannot name a resident machine: use two to 64 letters, digits, '_', '.' and '-', the first no sign")
    }

    // MARK: files

    private func noteFile(_ name: String) -> String { "\(folder)/\(name).json" }
    private func lockFile(_ name: String) -> String { "\(folder)/\(name).lock" }

    /// By their locks, which are there before there is anything to be taken away.
    private func names() throws -> [String] {
        guard exists(folder) else { return [] }
        return try listDirectory(folder).filter { $0.hasSuffix(".lock") }.map { String($0.dropLast(5)) }.filter(Self.isName)
    }

    func readNote(_ name: String) throws -> Note? {
        do { return try JSONDecoder().decode(Note.self, from: Data(try readFile(noteFile(name)))) } catch let error as SystemError
            where error.code == ENOENT
        {
            return nil
        }
    }

    func write(_ note: Note) throws { try replaceFile(noteFile(note.name), Array(try JSONEncoder().encode(note))) }

    @Loop func reclaim(_ note: Note) async throws {
        guard let driver = drivers[note.hypervisor]?() else {
            throw SandboxError("this program has no driver \"\(note.hypervisor)\"")
        }
        try await driver.reclaiming?.reclaim(note.machine)
    }

    /// Takes the machine away, and then what says that there is one. The caller has the lock, whose file goes, too.
    @Loop func remove(_ name: String) async throws {
        if let note = try readNote(name) { try await reclaim(note) }
        Fault.point("resident:reclaimed")
        for file in [noteFile(name), lockFile(name)] where unlink(file) != 0 && errno != ENOENT {
            throw SystemError("remove", file)
        }
    }

    /// The lock, whose file others find; nil when somebody has it.
    private func attemptLock(_ name: String) throws -> FileLock? {
        while true {
            guard let held = try FileLock.attempt(lockFile(name)) else { return nil }
            var ours = stat()
            var theirs = stat()
            if fstat(held.raw, &ours) == 0, stat(lockFile(name), &theirs) == 0, ours.st_ino == theirs.st_ino { return held }
        }
    }
}

/// What a resident machine is, besides the devices that come and go: a container that wants another one gets another one. Words for people, and
/// for comparing.
public struct ResidentShape: Codable, Hashable, Sendable {
    public var memory: UInt64
    public var processors: Int
    var kind: MachineSpec.Kind
    var kernel: String
    var initramfs: String
    var kernelArguments: [String]
    /// Files that every machine has.
    var fixed: [String]

    init(_ spec: MachineSpec) {
        memory = spec.memoryBytes
        processors = spec.vcpus
        kind = spec.kind
        kernel = spec.kernel
        initramfs = spec.initramfs
        kernelArguments = spec.kernelArguments
        fixed = spec.disks.filter(\.isFixed).map(\.path)
    }
}

/// A tenant's machine, in the hands of a container's monitor.
@Loop
final class Resident {
    private let store: ResidentStore
    private let wanted: ContainerRecord.Resident
    private let container: String
    private let lock: FileLock
    private var note: ResidentStore.Note?

    nonisolated init(
        _ store: ResidentStore, _ wanted: ContainerRecord.Resident, _ container: String, _ lock: FileLock,
        _ note: ResidentStore.Note?
    ) {
        self.store = store
        self.wanted = wanted
        self.container = container
        self.lock = lock
        self.note = note
    }

    /// The machine that waits, where it is such a one; it waits no more.
    func unpark(_ spec: MachineSpec, _ hypervisor: String) throws -> ParkedMachine? {
        guard var note, let parked = note.parked, note.shape == ResidentShape(spec), note.hypervisor == hypervisor else {
            return nil
        }
        note.parked = nil
        note.container = container
        try keep(note)
        Fault.point("resident:unparked")
        return parked
    }

    /// Takes away what there is, and notes what will be made from `spec`.
    func begin(_ spec: MachineSpec, _ hypervisor: String) async throws {
        if let note { try await store.reclaim(note) }
        try keep(
            .init(
                name: wanted.name, hypervisor: hypervisor, machine: spec.id, shape: ResidentShape(spec), container: container))
        Fault.point("resident:noted")
    }

    /// It waits from now on.
    func park(_ parked: ParkedMachine) throws {
        guard var note else { return }
        note.parked = parked
        note.until = Timestamp.now.nanoseconds + Int64(wanted.idle) * 1_000_000_000
        try keep(note)
        Fault.point("resident:parked")
    }

    /// Takes away what does not wait.
    func settle() async throws {
        if note?.parked == nil { try await store.remove(wanted.name) }
        withExtendedLifetime(lock) {}
    }

    private func keep(_ note: ResidentStore.Note) throws {
        try store.write(note)
        self.note = note
    }
}
