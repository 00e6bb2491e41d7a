import CLinux
import Glibc
import LinuxSystem
import MachineProcesses
import Machines

/// A machine that QEMU runs: the process, its control channel, its console, and the share's server.
@Loop
final class QEMUMachine: VirtualMachine {
    nonisolated let guest: GuestLayout
    private let accelerator: ResolvedAccelerator
    let qemu: ConfinedProcess
    let server: ShareServer?
    private let root: ConfinedRoot
    let control: QMPClient
    let words: QEMUArguments
    private let agent: SharedDescriptor
    private let console: ConsoleLog
    let events: ShutdownEvents
    private var stopping = false
    private var helperEnd: ExitStatus?
    private var hasEnded = false
    private var ending: Task<MachineExit, Never>?
    /// Memory that is still to be copied: from a snapshot's file to the machine's own.
    private var copying: [(from: SharedDescriptor, range: Range<Int>, to: SharedDescriptor)] = []
    /// What a save notes, besides QEMU's version.
    let savedFacts: [String: String]
    /// The machine that this one was made of.
    private let snapshot: Snapshot?
    /// The file that is the memory, shared with a server; or the one below it, of the saved machine.
    let memoryFile: SharedDescriptor?
    let memorySize: UInt64
    /// The file of what may come later.
    let laterFile: SharedDescriptor?
    var saves = 0

    /// Whether it makes copies of itself, or is one.
    enum Standing {
        case alone
        case keeping(AwakePlace)
        case copy(of: AwakePlace)
    }
    private let isCopy: Bool
    /// The numbers of the descriptors that only copies are made by.
    private var copiers: [Int32] = []

    /// Starts QEMU and, where there is a share, its server; the guest does not run yet. When it throws, nothing is left.
    init(
        _ spec: MachineSpec, _ plan: QEMUPlan, from snapshot: Snapshot? = nil, _ standing: Standing = .alone,
        in directory: MachineDirectory
    ) throws {
        self.snapshot = snapshot
        if case .copy = standing { isCopy = true } else { isCopy = false }
        savedFacts = plan.facts
        memorySize = spec.wholeMemory
        guest = plan.layout
        accelerator = plan.accelerator
        let confinement = spec.confinement
        let controlPair = try makeSocketPair()
        let agentPair = try makeSocketPair()
        let consolePair = try makeSocketPair()
        let disks = try spec.disks.map { try DiskFile($0) }
        console = try ConsoleLog(spec.consoleLog, from: consolePair.0)
        for ours in [controlPair.0, agentPair.0, consolePair.0] { try setNonBlocking(ours.raw) }
        agent = agentPair.0
        let events = ShutdownEvents()
        self.events = events
        control = QMPClient(controlPair.0) { events.take($0, $1) }

        let server = try spec.share.map { share in
            guard let program = plan.shareServer else { throw ShareServerProgram.missing }
            return try ShareServer(share, program, isRestored: snapshot != nil, confinement: confinement, in: directory)
        }
        self.server = server
        do {
            root = try ConfinedRoot(at: "\(directory.path)/vmm-root", label: confinement.labels?.files)
        } catch {
            server?.abandon()
            throw error
        }
        do {
            let user = standing.isKeeping ? 0 : confinement.vmmUser
            if case .copy(let place) = standing, let snapshot {
                // What others see of a machine's memory is to be the copy's own.
                let spare = spec.share.flatMap { _ in place.takeSpare(of: spec.wholeMemory) }
                memoryFile =
                    try spec.share != nil
                    ? spare ?? AwakePlace.makeMemory(of: spec.wholeMemory)
                    : SharedDescriptor(try openFile(snapshot.memory, O_RDONLY))
                laterFile = try QEMUArguments.laterMemory(of: spec).map { try AwakePlace.makeMemory(of: $0 << 20) }
                words = QEMUArguments(
                    spec: spec, board: plan.board, accelerator: plan.accelerator, control: 0, agent: 0, console: 0, disks: [],
                    taps: [])
                var given = [AwakePlace.Role.control: controlPair.1, .agent: agentPair.1, .console: consolePair.1]
                for (index, disk) in disks.enumerated() { given[.disk(index)] = disk.file }
                for (index, nic) in spec.nics.enumerated() { if case .tap(let tap) = nic.end { given[.tap(index)] = tap } }
                guard confinement.profile == nil, confinement.labels == nil else {
                    throw MachineError(.unsupported, "a copy of a machine that stands by cannot have a profile or a label")
                }
                given[.share] = server?.connection
                given[server == nil ? .below : .memory] = memoryFile
                given[.later] = laterFile
                let (root, control) = (root, control)
                let cgroups = confinement.cgroups
                qemu = try ConfinedProcess(role: "qemu") { output in
                    let made = try place.copy(
                        given, output: output, name: "hull-\(spec.id)", in: root, user: user, cgroups: cgroups,
                        takesMemory: server != nil && spare == nil)
                    control.know(version: made.version)
                    return made.process
                }
                return
            }
            try root.bindPrograms()
            if let own = plan.program.ownPlace { try root.bind(own, at: own) }
            // What was read at the boot is in the restored memory.
            let boots = snapshot == nil
            if boots {
                try root.bind(spec.kernel, at: "/kernel", executable: false)
                try root.bind(spec.initramfs, at: "/initramfs", executable: false)
            }
            try root.bind("/dev/null", at: "/dev/null", readOnly: false, devices: true)
            if plan.accelerator == .kvm {
                if confinement.isRootless {
                    try root.bind("/dev/kvm", at: "/dev/kvm", readOnly: false, devices: true)
                } else {
                    try root.bindDevice("/dev/kvm", at: "/dev/kvm", owner: user)
                }
            }
            var inherited = [controlPair.1, agentPair.1, consolePair.1]
            func inherit(_ descriptor: SharedDescriptor) -> Int32 {
                inherited.append(descriptor)
                return Int32(3 + inherited.count - 1)
            }
            let memory = try Self.bindMemory(of: spec, snapshot, in: root, user: user)
            memoryFile = memory.descriptor
            let later = try Self.bindLaterMemory(of: spec, on: plan, memory.saved, in: root, user: user)
            laterFile = later?.file
            copying = [memory.copying, later?.copying].compactMap(\.self)
            let state = try snapshot.map { SharedDescriptor(try openFile($0.state, O_RDONLY)) }
            let share = server.map { inherit($0.connection) }
            var arguments = QEMUArguments(
                spec: spec, board: plan.board, accelerator: plan.accelerator, tscKilohertz: plan.tscKilohertz,
                boot: boots ? .init(kernel: "/kernel", initramfs: "/initramfs") : nil,
                incoming: state.map { inherit($0) }, memoryFile: memory.file, laterFile: Self.laterPlace, control: 3, agent: 4,
                console: 5,
                share: share,
                disks: disks.map { .init(descriptor: inherit($0.file), isBlockDevice: $0.isBlockDevice) },
                taps: spec.nics.compactMap { nic in
                    // The plan has made sure of it.
                    if case .tap(let tap) = nic.end { inherit(tap) } else { nil }
                })
            arguments.isSandboxed = !standing.isKeeping
            words = arguments
            var how = Spawn(plan.program.path, arguments.words(), environment: [])
            // Its only way to find its modules and firmware, without a /proc in its root.
            how.arguments[0] = plan.program.path
            how.identity = (user, user, [])
            how.keepsGroups = confinement.isRootless
            how.profile = confinement.profile
            how.capabilities = 0
            if case .keeping(let place) = standing {
                how.identity = nil
                // For its copies, until they give them up: SETGID, SETUID, SETPCAP, SYS_CHROOT, SYS_ADMIN.
                how.capabilities = 1 << 6 | 1 << 7 | 1 << 8 | 1 << 18 | 1 << 21
                try root.bind(AwakePlace.library, at: AwakePlace.libraryInside)
                copiers = [
                    inherit(try UnixSocket.listen(place.socket)),
                    inherit(SharedDescriptor(try openFile("/proc/self/ns/pid", O_RDONLY))),
                ]
                let numbers = copiers + [inherit(try AwakePlace.filter()), share ?? -1]
                how.environment = [
                    "LD_PRELOAD=\(AwakePlace.libraryInside)", "HULL_AWAKE=\(numbers.map { "\($0)" }.joined(separator: ","))",
                ]
            }
            qemu = try ConfinedProcess(
                role: "qemu", how, root: root, confinement: confinement, descriptors: inherited, isApart: !standing.isKeeping)
        } catch {
            // What counts is why it could not be started; what could not be taken down goes with the monitor's namespaces.
            try? root.remove()
            server?.abandon()
            throw error
        }
        server?.connectionGiven()
    }

    /// What is to be copied: a range of a snapshot's file to the begin of one of the machine's own.
    private typealias Copying = (from: SharedDescriptor, range: Range<Int>, to: SharedDescriptor)

    /// Shows QEMU the file that is to be the guest's memory, where there is one: a snapshot's, which can only be read; or an empty one that
    /// the share server sees too, and that will be filled with what the snapshot's holds.
    private static func bindMemory(
        of spec: MachineSpec, _ snapshot: Snapshot?, in root: ConfinedRoot, user: UInt32
    ) throws -> (
        file: QEMUArguments.MemoryFile?, descriptor: SharedDescriptor?, saved: SharedDescriptor?, copying: Copying?
    ) {
        let place = "/memory"
        let saved = try snapshot.map { SharedDescriptor(try openFile($0.memory, O_RDONLY)) }
        if spec.share != nil {
            let own = try root.bindMemory(of: spec.wholeMemory, at: place, owner: user)
            return (.init(path: place, isPrivate: false), own, saved, saved.map { ($0, 0..<Int(spec.wholeMemory), own) })
        }
        guard let snapshot else { return (nil, nil, nil, nil) }
        // The file belongs to root and is closed to all others; in QEMU's root it belongs to QEMU.
        let owners = try makeUserNamespace(base: user, count: 1)
        try root.bind(snapshot.memory, at: place, executable: false, owners: owners)
        return (.init(path: place, isPrivate: true), saved, saved, nil)
    }

    /// The same for memory that may come later: always a file of the machine's own. What a saved one had of it is behind the rest.
    private static func bindLaterMemory(
        of spec: MachineSpec, on plan: QEMUPlan, _ saved: SharedDescriptor?, in root: ConfinedRoot, user: UInt32
    ) throws -> (file: SharedDescriptor, copying: Copying?)? {
        guard let megabytes = QEMUArguments.laterMemory(of: spec) else { return nil }
        let file = try root.bindMemory(of: megabytes << 20, at: laterPlace, owner: user)
        guard let saved else { return (file, nil) }
        var status = stat()
        try checked("look at", "the saved machine's memory") { fstat(saved.raw, &status) }
        let whole = Int(spec.wholeMemory)
        return (file, Int(status.st_size) > whole ? (saved, whole..<whole + Int(megabytes << 20), file) : nil)
    }

    private static let laterPlace = "/later"

    /// Waits until QEMU answers, takes from its root and the server's what they had to read, and lets the guest run.
    func begin() async throws {
        let qemu = qemu
        let server = server
        let listeners = [
            Task { @Loop in await self.control.read() }, Task { @Loop in await self.console.record() },
            Task { @Loop in await qemu.listen() },
        ]
        let helper = server.map { server in
            Task { @Loop in
                let listening = Task { @Loop in await server.process.listen() }
                // Waiting for a child of ours fails only when it was reaped, which is done here alone.
                let end = try? await server.process.child.wait()
                // One that ended well did so because QEMU's end of its connection closed: QEMU went first.
                if !self.hasEnded, end != .code(0) { self.helperEnd = end }
                qemu.child.signal(SIGKILL)
                await listening.value
            }
        }
        ending = Task { @Loop in
            // The same: it is reaped here and nowhere else.
            let status = (try? await qemu.child.wait()) ?? .code(-1)
            self.hasEnded = true
            self.events.end()
            server?.kill()
            await helper?.value
            for listener in listeners { await listener.value }
            return self.exit(status)
        }
        do {
            try root.releaseBound()
            try server?.release()
            // Beside QEMU's own start.
            for one in copying { try copyData(from: one.from, one.range, to: one.to, "the saved machine's memory") }
            copying = []
            // Long for a host that is a machine itself, and busy; a QEMU that ends is noticed at once.
            if !isCopy {
                try await withDeadline(.seconds(120), awaiting: "QEMU's answer on its control channel") {
                    _ = try await self.control.execute("qmp_capabilities")
                }
            }
            if let snapshot {
                try Self.check(version: version, of: snapshot)
                // A copy stands where the machine stood that it is of.
                if !isCopy {
                    try await change(by: snapshot.changes)
                    try await load()
                }
            }
            try root.empty()
            if isCopy { try await server?.takeOver() }
            try server?.emptyRoot()
            try await control.execute("cont")
        } catch {
            // A QEMU that gave up closes its channel a moment before it has ended.
            try? await sleep(for: .milliseconds(20))  // cancelled or not: it is ended now
            let gaveUp = hasEnded
            await stop(grace: .zero)
            if !gaveUp { throw error }
            let end = await wait()
            let words = end.complaints.isEmpty ? "it ended without a word" : end.complaints
            let kvm = KVMState.probe()
            if accelerator == .kvm, !kvm.works {
                throw MachineError(
                    .acceleratorUnusable,
                    "KVM was asked for and runs no machine here: \(kvm.explanation); or leave --accel out (QEMU said: \(words))")
            }
            throw MachineError(.startFailed, "QEMU did not start: \(words)", cause: error, consoleTail: end.consoleTail)
        }
    }

    private func exit(_ status: ExitStatus) -> MachineExit {
        let reason: MachineExit.Reason
        if stopping {
            reason = .stopped
        } else if let helperEnd, events.reason == nil, status == .signal(SIGKILL) {
            reason = .helperDied(role: "virtiofsd", helperEnd)
        } else {
            switch events.reason {
            case "guest-panic": reason = .panicked
            case "guest-reset", "subsystem-reset": reason = console.showsPanic ? .panicked : .reset
            case "guest-shutdown": reason = .poweredOff
            default: reason = .vmmDied(status)
            }
        }
        let complaints = [qemu.complaints, server?.process.complaints ?? ""].filter { !$0.isEmpty }.joined(separator: "\n")
        return MachineExit(reason: reason, consoleTail: console.lines(reason == .panicked ? 100 : 40), complaints: complaints)
    }

    var processes: [MachineProcess] {
        [MachineProcess(role: "qemu", identity: qemu.identity)]
            + (server.map { [MachineProcess(role: "virtiofsd", identity: $0.process.identity)] } ?? [])
    }

    func connect() async throws -> SharedDescriptor { agent }
    func pause() async throws { try await control.execute("stop") }
    func resume() async throws { try await control.execute("cont") }
    var sharing: (any Sharing)? { server }
    var resizing: (any Resizing)? { words.laterMemory.map { MemoryDevices(control, initial: words.megabytes, later: $0) } }
    // microvm plugs nothing in, and what the guest is given later its share and its spare NICs carry.
    var plugging: (any Plugging)? { nil }
    var parking: (any Parking)? { nil }
    func consoleTail(lines: Int) -> String { console.lines(lines) }

    var snapshotting: (any Snapshotting)? { self }

    func stop(grace: Duration) async {
        guard let ending else { return }
        if grace > .zero {
            // A guest that does not end in time is ended.
            _ = await ended(within: grace)
        }
        if !hasEnded { stopping = true }
        qemu.child.signal(SIGKILL)
        _ = await ending.value
    }

    func wait() async -> MachineExit {
        guard let ending else { preconditionFailure("a machine is waited for after it began") }
        return await ending.value
    }

    /// Gives up what the machine had on the host; it has ended.
    func remove() throws {
        try root.remove()
        try server?.remove()
    }
}

extension QEMUMachine.Standing {
    var isKeeping: Bool { if case .keeping = self { true } else { false } }
}

extension QEMUMachine {
    /// Stands still, and lets others make copies of it at `place`.
    func publish(at place: AwakePlace, disks: [String]) async throws {
        try await control.execute("stop")
        var files: [AwakePlace.Role: SharedDescriptor] = [:]
        for (index, disk) in disks.enumerated() { files[.disk(index)] = SharedDescriptor(try openFile(disk, O_PATH)) }
        files[server == nil ? .below : .memory] = memoryFile
        files[.later] = laterFile
        files[.state] = try snapshot.map { SharedDescriptor(try openFile($0.state, O_PATH)) }
        try place.publish(
            words.descriptors, files: files, own: copiers, pid: qemu.identity.pid, version: control.version)
    }

    /// Has memory ready for the next copy at `place`, where copies need their own. Until it is cancelled.
    func keepSpare(at place: AwakePlace) async throws {
        if server != nil, let memoryFile { try await place.keepSpare(of: memoryFile, bytes: memorySize) }
    }
}

/// Why QEMU says that the guest ended. Kept apart from the machine, because it is told before that is whole.
@Loop
final class ShutdownEvents {
    private(set) var reason: String?
    /// The states of a save under way, in order; for one reader.
    let migrationStatuses: AsyncStream<String>
    private let migrations: AsyncStream<String>.Continuation

    init() { (migrationStatuses, migrations) = AsyncStream.makeStream(of: String.self) }

    /// QEMU has ended: nothing will come any more.
    func end() { migrations.finish() }

    func take(_ name: String, _ data: JSON) {
        if name == "SHUTDOWN" { reason = data["reason"]?.text }
        if name == "GUEST_PANICKED" { reason = "guest-panic" }
        if name == "MIGRATION", let status = data["status"]?.text { migrations.yield(status) }
    }
}

/// A disk's file, opened as it is to be used.
struct DiskFile {
    let file: SharedDescriptor
    let isBlockDevice: Bool

    init(_ disk: Disk) throws {
        let file: SharedDescriptor
        do {
            file = SharedDescriptor(try openFile(disk.path, disk.readOnly ? O_RDONLY : O_RDWR))
        } catch {
            throw MachineError(.startFailed, "the disk '\(disk.name)' cannot be opened", cause: error)
        }
        var status = stat()
        try checked("look at", disk.path) { fstat(file.raw, &status) }
        self.file = file
        isBlockDevice = status.st_mode & S_IFMT == S_IFBLK
    }
}
