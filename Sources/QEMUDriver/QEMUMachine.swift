import CLinux
import Glibc
import LinuxSystem
import Machines

/// A machine that QEMU runs: the process, its control channel, its console, and the share's server.
@Loop
final class QEMUMachine: VirtualMachine {
    nonisolated let guest: GuestLayout
    private let accelerator: ResolvedAccelerator
    private let qemu: ConfinedProcess
    private let server: ShareServer?
    private let root: ConfinedRoot
    let control: QMPClient
    private let words: QEMUArguments
    private let agent: SharedDescriptor
    private let console: ConsoleLog
    private let events: ShutdownEvents
    private var stopping = false
    private var helperEnd: ExitStatus?
    private var hasEnded = false
    private var ending: Task<MachineExit, Never>?
    /// Memory that is still to be copied: from a snapshot's file to the machine's own.
    private var copying: (from: SharedDescriptor, to: SharedDescriptor)?
    /// What a save notes; nil for a machine whose memory is in no file of its own.
    private let savedFacts: [String: String]?
    private let isRestored: Bool

    /// Starts QEMU and, where there is a share, its server; the guest does not run yet. When it throws, nothing is left.
    init(_ spec: MachineSpec, _ plan: QEMUPlan, from snapshot: Snapshot? = nil, in directory: MachineDirectory) throws {
        isRestored = snapshot != nil
        savedFacts =
            spec.memoryFile == nil ? nil : plan.tscKilohertz.map { [QEMUPlan.clockFact: "\($0)"] } ?? [:]
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
            return try ShareServer(share, program, confinement: confinement, in: directory)
        }
        self.server = server
        do {
            root = try ConfinedRoot(at: "\(directory.path)/vmm-root")
        } catch {
            server?.abandon()
            throw error
        }
        do {
            try root.bindPrograms()
            if let own = plan.program.ownPlace { try root.bind(own, at: own) }
            // What was read at the boot is in the restored memory; but q35 has its boot loader in a memory of the board's.
            let boots = snapshot == nil || plan.board == .q35
            if boots {
                try root.bind(spec.kernel, at: "/kernel", executable: false)
                try root.bind(spec.initramfs, at: "/initramfs", executable: false)
            }
            try root.bind("/dev/null", at: "/dev/null", readOnly: false, devices: true)
            let user = confinement.vmmUser
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
            copying = memory.copying
            let state = try snapshot.map { SharedDescriptor(try openFile($0.state, O_RDONLY)) }
            let arguments = QEMUArguments(
                spec: spec, board: plan.board, accelerator: plan.accelerator, tscKilohertz: plan.tscKilohertz,
                boot: boots ? .init(kernel: "/kernel", initramfs: "/initramfs") : nil,
                incoming: state.map { inherit($0) }, memoryFile: memory.file, control: 3, agent: 4, console: 5,
                share: server.map { inherit($0.connection) },
                disks: disks.map { .init(descriptor: inherit($0.file), isBlockDevice: $0.isBlockDevice) },
                taps: spec.nics.map { inherit($0.tap) })
            words = arguments
            var how = Spawn(plan.program.path, arguments.words(), environment: [])
            // Its only way to find its modules and firmware, without a /proc in its root.
            how.arguments[0] = plan.program.path
            how.identity = (user, user, [])
            how.keepsGroups = confinement.isRootless
            how.capabilities = 0
            qemu = try ConfinedProcess(role: "qemu", how, root: root, confinement: confinement, descriptors: inherited)
        } catch {
            // What counts is why it could not be started; what could not be taken down goes with the monitor's namespaces.
            try? root.remove()
            server?.abandon()
            throw error
        }
        server?.connectionGiven()
    }

    /// Shows QEMU the file that is to be the guest's memory, where there is one: the machine's own, to be saved; a snapshot's, which can
    /// only be read; or an empty one that will be filled with what the snapshot's holds, because a share server must see what the guest writes.
    private static func bindMemory(
        of spec: MachineSpec, _ snapshot: Snapshot?, in root: ConfinedRoot, user: UInt32
    ) throws -> (file: QEMUArguments.MemoryFile?, copying: (from: SharedDescriptor, to: SharedDescriptor)?) {
        let place = "/memory"
        if let snapshot, spec.share != nil {
            let from = SharedDescriptor(try openFile(snapshot.memory, O_RDONLY))
            let to = try root.bindMemory(of: spec.wholeMemory, at: place, owner: user)
            return (.init(path: place, isPrivate: false), (from, to))
        }
        guard let path = snapshot?.memory ?? spec.memoryFile else { return (nil, nil) }
        // The file belongs to root and is closed to all others; in QEMU's root it belongs to QEMU.
        let owners = try makeUserNamespace(base: user, count: 1)
        try root.bind(path, at: place, readOnly: snapshot != nil, executable: false, owners: owners)
        return (.init(path: place, isPrivate: snapshot != nil), nil)
    }

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
            if let copying {
                // Beside QEMU's own start.
                try copyData(from: copying.from, to: copying.to, "the saved machine's memory")
                self.copying = nil
            }
            try await withDeadline(.seconds(30), awaiting: "QEMU's answer on its control channel") {
                _ = try await self.control.execute("qmp_capabilities")
            }
            if isRestored {
                // It ends with a sentence when it cannot load its state. A `cont` before that is done would be forgotten: the saved
                // machine stood still, and so does this one when it is loaded.
                try await migrate("migrate-incoming", within: .seconds(30))
            }
            try root.empty()
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
    func consoleTail(lines: Int) -> String { console.lines(lines) }

    var snapshotting: (any Snapshotting)? { savedFacts == nil ? nil : self }

    func stop(grace: Duration) async {
        guard let ending else { return }
        if grace > .zero {
            // A guest that does not end in time is ended.
            _ = try? await withDeadline(grace, awaiting: "the guest's end") { await Self.value(of: ending) }
        }
        if !hasEnded { stopping = true }
        qemu.child.signal(SIGKILL)
        _ = await ending.value
    }

    func wait() async -> MachineExit {
        guard let ending else { preconditionFailure("a machine is waited for after it began") }
        return await ending.value
    }

    // Returns early when the waiting task is cancelled.
    private static func value(of ending: Task<MachineExit, Never>) async {
        let signal = AsyncStream<Void> { continuation in
            Task { @Loop in
                _ = await ending.value
                continuation.finish()
            }
        }
        for await _ in signal {}
    }

    /// Gives up what the machine had on the host; it has ended.
    func remove() throws {
        try root.remove()
        try server?.remove()
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

extension QEMUMachine: Snapshotting {
    /// Long for a disk that is slow: the state has a few hundred kilobytes.
    private static let saveDeadline = Duration.seconds(60)

    func save(to state: SharedDescriptor) async throws -> [String: String] {
        guard let savedFacts else {
            throw MachineError(.unsupported, "a machine whose memory is in no file cannot be saved: start it with one")
        }
        try await control.execute("stop")
        try await control.execute(
            "add-fd", ["fdset-id": .integer(Int64(QEMUArguments.stateSet))], descriptors: [state.raw])
        try await migrate("migrate", within: Self.saveDeadline)
        return savedFacts
    }

    /// Writes or reads the devices' state: once in a machine's life. `x-ignore-shared` leaves out memory that is in a file.
    fileprivate func migrate(_ command: String, within deadline: Duration) async throws {
        try await control.execute(
            "migrate-set-capabilities",
            [
                "capabilities": .array(
                    ["x-ignore-shared", "events"].map { .object(["capability": .string($0), "state": .bool(true)]) })
            ])
        try await control.execute(command, ["uri": .string("file:/dev/fdset/\(QEMUArguments.stateSet)")])
        let statuses = events.migrationStatuses
        try await withDeadline(deadline, awaiting: "the devices' state") {
            for await status in statuses {
                if status == "completed" { return }
                if status == "failed" || status == "cancelled" { break }
            }
            let answer = try await self.control.execute("query-migrate")
            let words = answer["error-desc"]?.text ?? "it gave no reason"
            throw MachineError(.refused, "QEMU did not finish \(command): \(words)")
        }
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
