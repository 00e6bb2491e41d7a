import Glibc
import LinuxSystem
import MachineProcesses
import Machines

/// A machine that Xen runs: a domain, its console, and the memory that it shares with us.
@Loop
final class Domain: VirtualMachine {
    nonisolated let guest: GuestLayout
    let spec: MachineSpec
    let plan: DomainPlan
    let toolstack: Toolstack
    let store: Store
    private let directory: MachineDirectory
    /// The stream's end that the engine has, and the one that is carried to the memory.
    private let agent: SharedDescriptor
    private let carried: SharedDescriptor
    private(set) var id: UInt32 = 0
    /// What it has now.
    var devices = DomainDevices()
    /// The block devices of its disks, until it ends: a backend opens its one when it comes to it, and nobody else keeps them till then.
    var held: [String: HostDisk] = [:]
    private var isPaused = true
    /// Whether it was left to others.
    private var isParked = false
    private var console: ConsoleLog?
    private var recording: Task<Void, Never>?
    private var carrying: [Task<Void, Never>] = []
    let share: DomainShare?
    private var deviceModel: DeviceModel?
    private var ending: Task<MachineExit, Never>?
    /// xl, which was told to take it away.
    private var destroying: Task<Void, any Error>?
    private var hasEnded = false
    private var complaints = ""
    /// The pages that it had before it was shrunk.
    var wholeMemory: Int?

    init(
        _ spec: MachineSpec, madeAs origin: String, isRestored: Bool, _ plan: DomainPlan, _ toolstack: Toolstack,
        in directory: MachineDirectory
    ) throws {
        self.spec = spec
        self.origin = origin
        self.plan = plan
        self.toolstack = toolstack
        self.directory = directory
        guest = plan.layout
        store = try Store.connect()
        (agent, carried) = try makeSocketPair(nonBlocking: true)
        share = try spec.share.map { try DomainShare($0, isRestored: isRestored, confinement: spec.confinement, in: directory) }
    }

    /// Makes the domain, paused, or takes the one that waits; connects its devices and its console; and lets it run. `files` is what was known of its
    /// share where it was saved.
    func begin(_ source: MachineSource, knowing files: FileRelay.Saved?) async throws {
        let releases = try await store.watch("@releaseDomain")
        // Told once at the beginning, when there is nothing to be seen yet.
        await Self.next(of: releases)
        switch source {
        case .boot: try await make { try await self.toolstack.create($0) }
        case .restore(_, let snapshot): try await make { try await self.toolstack.restore($0, from: snapshot.state) }
        case .parked(_, let parked): try await adopt(parked)
        }
        try await openConsole()
        try await share?.begin(from: files) { self.fail("") }
        carrying = [Task { @Loop in await self.carry { try await self.carryAgent() } }]
        if let share { carrying.append(Task { @Loop in await self.carry { try await share.carry(self.store, of: self.id) } }) }
        ending = Task { @Loop in await self.end(releases) }
        try await resume()
        // Whose guest runs already is told of its devices at once, and its drivers need a moment to find them.
        if case .boot = source {} else { try await awaitGuest() }
        if case .restore(_, let snapshot) = source, let whole = DomainMemory.whole(snapshot.facts) {
            // xl told the guest to have all its memory, and it takes it beside everything else: nobody's programs are to see less.
            // A guest that waits for a processor is not one that gets no memory.
            guard await DomainMemory.settle(id, patience: .seconds(30), { $0 >= whole }) else {
                throw MachineError(
                    .startFailed, "the restored domain does not get all of its memory back: is enough free (xl info)?")
            }
        }
    }

    /// Makes it by xl, which is told of all in a file.
    private func make(_ create: @Loop (_ file: String) async throws -> Void) async throws {
        let disks = try spec.disks.map { try HostDisk($0) }
        let file = "\(directory.path)/domain.cfg"
        try replaceFile(file, Array(try plan.configuration(spec, devices: disks.map(\.path)).text().utf8))
        try await create(file)
        guard let id = try await number() else {
            throw MachineError(.startFailed, "xl made the domain \(plan.name), and it is not there")
        }
        self.id = id
        for (index, disk) in disks.enumerated() {
            let place = plan.kind.firstPlace + index
            try await connect(disk, as: place)
            devices.disks[spec.disks[index].name] = place
            held[spec.disks[index].name] = disk
        }
        for (index, nic) in spec.nics.enumerated() {
            try await connect(nic, as: index)
            devices.nics[nic.mac] = index
        }
        if plan.kind == .hvm { deviceModel = try await DeviceModel.adopt(of: id, plan.name, store) }
    }

    /// Takes one that waits, and gives it what it has not.
    private func adopt(_ parked: ParkedMachine) async throws {
        guard let state = try await toolstack.domains()[plan.uuid], state.end == nil, !state.isDying, state.isPaused,
            let kept = DomainDevices(facts: parked.facts)
        else { throw MachineError(.ended, "the domain \(plan.uuid) does not wait any more") }
        id = state.id
        devices = kept
        for disk in spec.disks where devices.disks[disk.name] == nil { try await attach(disk) }
        for nic in spec.nics { try await attach(nic) }
        for (name, disk) in plan.layout.disks where devices.path(of: name) != disk.path {
            throw MachineError(.refused, "the waiting domain has its disk '\(name)' elsewhere than it must")
        }
        // What its agent offered was for who had it before: it offers anew. So does who serves files, when the next container's are mounted.
        for offer in ["hull", "hull-share"] { try await store.write("/local/domain/\(id)/data/\(offer)", "") }
    }

    /// The disks that every machine has.
    var fixedDisks: [String] { spec.disks.filter(\.isFixed).map(\.name) }
    /// The id of the spec that it was made from.
    let origin: String

    /// The domain's number; nil when it is not there.
    private func number() async throws -> UInt32? {
        for name in try await store.list("/local/domain") {
            if try await store.read("/local/domain/\(name)/vm") == "/vm/\(plan.uuid)" { return UInt32(name) }
        }
        return nil
    }

    private func openConsole() async throws {
        let path = try await store.value(
            at: "/local/domain/\(id)/console/tty", awaiting: "the domain's console (is xenconsoled running?)",
            within: .seconds(30))
        guard path.hasPrefix("/dev/pts/") else {
            throw MachineError(.refused, "the domain's console is at \(path), which is no terminal")
        }
        let terminal = SharedDescriptor(try openFile(path, O_RDWR | O_NOCTTY | O_NONBLOCK))
        // Else the guest's words would come back to it as input.
        try Terminal(terminal.raw)?.makeRaw()
        let console = try ConsoleLog(spec.consoleLog, from: terminal)
        self.console = console
        recording = Task { @Loop in await console.record() }
    }

    /// Waits for the memory that the agent shares, and carries the stream.
    private func carryAgent() async throws {
        for await _ in try await store.watch("/local/domain/\(id)/data/hull") {
            guard let text = try await store.read("/local/domain/\(id)/data/hull"), !text.isEmpty else { continue }
            guard let offer = MemoryOffer(text) else { throw MachineError(.refused, "the guest offers no memory: '\(text)'") }
            let memory = try SharedMemory(of: id, offer)
            defer { memory.unmap() }
            return try await memory.carry(carried)
        }
    }

    /// Carries something of the guest's. What goes wrong there ends the machine, which can then say why.
    private func carry(_ body: @Loop () async throws -> Void) async {
        do { try await body() } catch is CancellationError {
        } catch { fail("\(error)\n") }
    }

    /// Ends the machine, which cannot go on.
    private func fail(_ complaint: String) {
        complaints += complaint
        let (toolstack, id) = (toolstack, id)
        // In a task of its own: the domain's end cancels this one. What is gone already cannot be destroyed.
        Task { @Loop in try? await toolstack.destroy(id) }
    }

    /// Nothing is carried any more, and the guest's pages are given back.
    private func stopCarrying() async {
        for task in carrying { task.cancel() }
        for task in carrying { await task.value }
    }

    /// Follows the domain to its end, and takes it away.
    private func end(_ releases: AsyncStream<Void>) async -> MachineExit {
        var reason: MachineExit.Reason?
        var state: DomainState?
        var modelEnd: ExitStatus?
        while reason == nil {
            await Self.next(of: releases)
            if isParked { return MachineExit(reason: .stopped, consoleTail: "", complaints: "") }
            do {
                state = try await toolstack.state(of: id, uuid: plan.uuid, name: plan.name)
                reason = self.reason(state)
                if reason == nil, modelEnd == nil, let deviceModel,
                    let end = deviceModel.end(among: try await toolstack.domains())
                {
                    modelEnd = end
                    complaints += deviceModel.complaint
                    try await toolstack.destroy(id)
                }
            } catch { complaints += "\(error)\n" }
        }
        hasEnded = true
        held = [:]
        await stopCarrying()
        await share?.stop()
        deviceModel?.end()
        // What xl has taken away is not taken away once more; a device model leaves more behind than xl knows.
        var destroyed: Set<UInt32> = []
        if deviceModel == nil, let destroying, case .success = await destroying.result { (destroyed, state) = ([id], nil) }
        do {
            try await Reclaimer(toolstack: toolstack).reclaim(uuid: plan.uuid, seen: state, destroyed: destroyed, releases)
        } catch { complaints += "\(error)\n" }
        // The console closes with the domain; a daemon that forgets it must not hold us.
        let recording = recording
        // Late or not, what came is in the log.
        try? await withDeadline(.seconds(5), awaiting: "the console's end") { await recording?.value }
        recording?.cancel()
        store.close()
        // Only now, so that whoever reads the stream finds out why it ended.
        shutdown(carried.raw, Int32(SHUT_RDWR))
        if reason == .reset, console?.showsPanic == true { reason = .panicked }
        // Whose server is gone was destroyed by us, and its device model with it.
        if reason == .destroyed, let end = share?.end { reason = .helperDied(role: "virtiofsd", end) }
        if reason == .destroyed, let modelEnd { reason = .vmmDied(modelEnd) }
        return MachineExit(
            reason: reason ?? .destroyed, consoleTail: console?.lines(reason == .panicked ? 100 : 40) ?? "",
            complaints: [complaints, share?.server.process.complaints ?? ""].filter { !$0.isEmpty }.joined(separator: "\n"))
    }

    /// Why a domain in this state has ended; nil while it has not.
    private func reason(_ state: DomainState?) -> MachineExit.Reason? {
        guard let state, !state.isDying else { return destroying != nil ? .stopped : .destroyed }
        switch state.end {
        // A guest is suspended while it is saved, and goes on, or is destroyed by who saved it.
        case nil, .suspend: return nil
        case .powerOff: return .poweredOff
        case .reboot: return .reset
        case .crash, .watchdog, .softReset: return .panicked
        }
    }

    /// The next change; where the store tells none any more, a second.
    static func next(of releases: AsyncStream<Void>) async {
        for await _ in releases { return }
        // Cancelled or not, it is looked at again.
        try? await sleep(for: .seconds(1))
    }

    var processes: [MachineProcess] {
        share.map { [MachineProcess(role: "virtiofsd", identity: $0.server.process.identity)] } ?? []
    }
    func connect() async throws -> SharedDescriptor { agent }
    // Xen counts how often.
    func pause() async throws {
        guard !isPaused else { return }
        try await toolstack.pause(id, hasDeviceModel: plan.kind == .hvm)
        isPaused = true
    }
    func resume() async throws {
        share?.goOn()
        guard isPaused else { return }
        try await toolstack.unpause(id, hasDeviceModel: plan.kind == .hvm)
        isPaused = false
    }
    /// xl paused it.
    func notePaused() { isPaused = true }
    var snapshotting: (any Snapshotting)? { self }
    var plugging: (any Plugging)? { self }
    // The processes that serve a stubdomain end with us.
    var parking: (any Parking)? { plan.kind != .hvm ? self : nil }
    var sharing: (any Sharing)? { share?.server }
    var resizing: (any Resizing)? { nil }
    func consoleTail(lines: Int) -> String { console?.lines(lines) ?? "" }

    /// Lets go of it, as it is.
    func leave() async {
        isParked = true
        held = [:]
        // Its pages are given back before anybody else takes them.
        await stopCarrying()
        await share?.stop()
        ending?.cancel()
        recording?.cancel()
        store.close()
        shutdown(carried.raw, Int32(SHUT_RDWR))
    }

    func stop(grace: Duration) async {
        // In a task of its own: whoever was cancelled ends its machine all the same.
        await Task { @Loop in await self.endNow(after: grace) }.value
    }

    private func endNow(after grace: Duration) async {
        if isParked { return }
        guard let ending else {
            // It did not come to run: what there is of it goes.
            await stopCarrying()
            await share?.stop()
            do { try await Reclaimer(toolstack: toolstack).reclaim(uuid: plan.uuid) } catch { complaints += "\(error)\n" }
            shutdown(carried.raw, Int32(SHUT_RDWR))
            return store.close()
        }
        if grace > .zero {
            // A guest that does not end in time is ended.
            _ = await ended(within: grace)
        }
        if !hasEnded {
            let destroying = Task { @Loop in try await self.toolstack.destroy(self.id) }
            self.destroying = destroying
            // What has gone meanwhile cannot be destroyed, and what cannot be is reclaimed by who follows it to its end.
            try? await destroying.value
        }
        _ = await ending.value
    }

    func wait() async -> MachineExit {
        guard let ending else { preconditionFailure("a machine is waited for after it began") }
        return await ending.value
    }
}
