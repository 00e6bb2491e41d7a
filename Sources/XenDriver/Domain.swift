import Glibc
import LinuxSystem
import Machines

/// A machine that Xen runs: a domain, its console, and the memory that it shares with us.
@Loop
final class Domain: VirtualMachine {
    nonisolated let guest: GuestLayout
    private let spec: MachineSpec
    private let plan: DomainPlan
    private let toolstack: Toolstack
    private let store: Store
    private let directory: MachineDirectory
    /// The stream's end that the engine has, and the one that is carried to the memory.
    private let agent: SharedDescriptor
    private let carried: SharedDescriptor
    private var id: UInt32 = 0
    private var console: ConsoleLog?
    private var recording: Task<Void, Never>?
    private var carrying: Task<Void, Never>?
    private var ending: Task<MachineExit, Never>?
    private var isStopping = false
    private var hasEnded = false
    private var complaints = ""

    init(_ spec: MachineSpec, _ plan: DomainPlan, _ toolstack: Toolstack, in directory: MachineDirectory) throws {
        self.spec = spec
        self.plan = plan
        self.toolstack = toolstack
        self.directory = directory
        guest = plan.layout
        store = try Store.connect()
        (agent, carried) = try makeSocketPair(nonBlocking: true)
    }

    /// Makes the domain, paused; connects its devices and its console; and lets it run.
    func begin() async throws {
        let disks = try spec.disks.map { try HostDisk($0) }
        let file = "\(directory.path)/domain.cfg"
        try replaceFile(file, Array(try plan.configuration(spec, devices: disks.map(\.path)).text().utf8))
        let releases = try await store.watch("@releaseDomain")
        // Told once at the beginning, when there is nothing to be seen yet.
        await Self.next(of: releases)
        try await toolstack.create(file)
        guard let id = try await number() else {
            throw MachineError(.startFailed, "xl made the domain \(plan.name), and it is not there")
        }
        self.id = id
        for (index, disk) in disks.enumerated() {
            try await connect("vbd", HostDisk.virtualNumber(index), ["physical-device": disk.number])
        }
        for (index, nic) in spec.nics.enumerated() {
            if case .interface(let plug) = nic.end { try await plug("vif\(id).\(index)") }
            try await connect("vif", index, [:])
        }
        try await openConsole()
        carrying = Task { @Loop in await self.carry() }
        ending = Task { @Loop in await self.end(releases) }
        try await toolstack.unpause(id)
        withExtendedLifetime(disks) {}
    }

    /// The domain's number; nil when it is not there.
    private func number() async throws -> UInt32? {
        for name in try await store.list("/local/domain") {
            if try await store.read("/local/domain/\(name)/vm") == "/vm/\(plan.uuid)" { return UInt32(name) }
        }
        return nil
    }

    /// What Xen's hotplug scripts would tell the backend.
    private func connect(_ kind: String, _ device: Int, _ values: [String: String]) async throws {
        let backend = "/local/domain/0/backend/\(kind)/\(id)/\(device)"
        for (name, value) in values { try await store.write("\(backend)/\(name)", value) }
        try await store.write("\(backend)/hotplug-status", "connected")
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

    /// Waits for the memory that the agent shares, and carries the stream. What goes wrong there ends the machine, which can then say why.
    private func carry() async {
        do {
            for await _ in try await store.watch("/local/domain/\(id)/data/hull") {
                guard let text = try await store.read("/local/domain/\(id)/data/hull"), !text.isEmpty else { continue }
                guard let offer = MemoryOffer(text) else { throw MachineError(.refused, "the guest offers no memory: '\(text)'") }
                let memory = try SharedMemory(of: id, offer)
                defer { memory.unmap() }
                return try await memory.carry(carried)
            }
        } catch is CancellationError {
        } catch {
            complaints += "\(error)\n"
            let (toolstack, id) = (toolstack, id)
            // In a task of its own: the domain's end cancels this one. What is gone already cannot be destroyed.
            Task { @Loop in try? await toolstack.destroy(id) }
        }
    }

    /// Follows the domain to its end, and takes it away.
    private func end(_ releases: AsyncStream<Void>) async -> MachineExit {
        var reason: MachineExit.Reason?
        var state: DomainState?
        while reason == nil {
            await Self.next(of: releases)
            do {
                state = try await toolstack.domains()[plan.uuid]
                reason = self.reason(state)
            } catch { complaints += "\(error)\n" }
        }
        hasEnded = true
        carrying?.cancel()
        await carrying?.value
        do { try await Reclaimer(toolstack: toolstack).reclaim(uuid: plan.uuid, seen: state, releases) } catch {
            complaints += "\(error)\n"
        }
        // The console closes with the domain; a daemon that forgets it must not hold us.
        let recording = recording
        // Late or not, what came is in the log.
        try? await withDeadline(.seconds(5), awaiting: "the console's end") { await recording?.value }
        recording?.cancel()
        store.close()
        // Only now, so that whoever reads the stream finds out why it ended.
        shutdown(carried.raw, Int32(SHUT_RDWR))
        if reason == .reset, console?.showsPanic == true { reason = .panicked }
        return MachineExit(
            reason: reason ?? .destroyed, consoleTail: console?.lines(reason == .panicked ? 100 : 40) ?? "",
            complaints: complaints)
    }

    /// Why a domain in this state has ended; nil while it has not.
    private func reason(_ state: DomainState?) -> MachineExit.Reason? {
        guard let state, !state.isDying else { return isStopping ? .stopped : .destroyed }
        switch state.end {
        case nil: return nil
        case .powerOff, .suspend: return .poweredOff
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

    nonisolated var processes: [MachineProcess] { [] }
    func connect() async throws -> SharedDescriptor { agent }
    func pause() async throws { try await toolstack.pause(id) }
    func resume() async throws { try await toolstack.unpause(id) }
    var snapshotting: (any Snapshotting)? { nil }
    var sharing: (any Sharing)? { nil }
    var resizing: (any Resizing)? { nil }
    func consoleTail(lines: Int) -> String { console?.lines(lines) ?? "" }

    func stop(grace: Duration) async {
        guard let ending else {
            // It did not come to run: what there is of it goes.
            do { try await Reclaimer(toolstack: toolstack).reclaim(uuid: plan.uuid) } catch { complaints += "\(error)\n" }
            shutdown(carried.raw, Int32(SHUT_RDWR))
            return store.close()
        }
        if grace > .zero {
            // A guest that does not end in time is ended.
            _ = try? await withDeadline(grace, awaiting: "the guest's end") { await Self.value(of: ending) }
        }
        if !hasEnded {
            isStopping = true
            // What has gone meanwhile cannot be destroyed, and what cannot be is reclaimed below.
            try? await toolstack.destroy(id)
        }
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
}
