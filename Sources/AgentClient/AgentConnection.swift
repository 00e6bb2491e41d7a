public import AgentProtocol
import Glibc
public import LinuxSystem

/// The host's end of the stream to the agent of one sandbox.
///
/// Requests may be made at once, without waiting for each other's answers; the agent carries them out in order. When the
/// stream breaks, every waiting task gets an `AgentConnectionError`.
@Loop
public final class AgentConnection {
    private var stream: SharedDescriptor
    private var session = HostSession()
    private var outgoing = ByteQueue()
    private var reader: Task<Void, Never>?
    private var writer: Task<Void, Never>?
    private var clock: Task<Void, Never>?
    private var answers: [UInt64: CheckedContinuation<[UInt8], any Error>] = [:]
    private var guestProcesses: [UInt64: GuestProcess] = [:]
    private let changed = Gate()
    /// Whether the agent was greeted; requests wait until then, but not for its answer.
    private var isGreeted = false
    /// Whether a save holds the stream back; requests and input wait meanwhile.
    private(set) var isQuiet = false
    /// Whether the agent was asked to fall silent and `resume` has not come yet.
    public private(set) var isQuiesced = false
    /// Why the stream is of no use any more.
    public private(set) var failure: AgentConnectionError?

    /// Called for every line of the agent's log; hostile text of bounded length.
    public var onLog: (@Loop (String) -> Void)?
    /// Called when the kernel killed in a container for want of memory.
    public var onOutOfMemory: (@Loop (OutOfMemory) -> Void)?
    /// Called after each reading of the guest's clock, with its offset from the host's and the reading's uncertainty.
    public var onClock: (@Loop (_ offset: Duration, _ uncertainty: Duration) -> Void)?

    /// Takes a stream to an agent, which `hello` greets. The open file is made non-blocking.
    public init(stream: SharedDescriptor) {
        self.stream = stream
    }

    /// Takes a stream as a driver gives it.
    public convenience init(stream: consuming OwnedDescriptor) {
        self.init(stream: SharedDescriptor(stream))
    }

    // MARK: the life of the stream

    /// Begins an epoch and agrees on the protocol's version; waits for a guest that still boots. The state says what runs. With `restored`
    /// it is the agent of a restored machine: its processes are known from then on (`adopted`), and stand still until `setIdentity`.
    @discardableResult
    public func hello(restored: Bool = false) async throws -> AgentState {
        try setNonBlocking(stream.raw)
        var random = SystemRandomNumberGenerator()
        outgoing.removeAll()
        write(session.begin(epoch: random.next(), adopting: restored))
        reader = Task { @Loop [weak self, stream] in await AgentConnection.read(stream, into: { self }) }
        // Right behind it, and others may follow: the agent carries them out in order.
        isGreeted = true
        changed.open()
        var greeting = Hello()
        greeting.keepsStill = restored
        let state: AgentState = try await ask(.hello, greeting, whileQuiet: true)
        // Their outputs may flow; the agent was told of its old credit only.
        if restored { write(session.repeatedCredit()) }
        return state
    }

    /// Ends the talking; the machine is not told. Everybody who waits gets an error.
    public func close() { end(.closed) }

    /// Asks the agent to sync and fall silent for a save; nothing is lost, every stream goes on after `resume`.
    /// Output that arrived stays here until it is read.
    public func quiesce() async throws -> AgentState {
        clock?.cancel()
        isQuiet = true
        do {
            while session.pendingRequests > 0 {
                if let failure { throw failure }
                try await changed.wait()
            }
            isQuiesced = true
            return try await ask(.quiesce, Done(), whileQuiet: true)
        } catch {
            isQuiet = false
            changed.open()
            throw error
        }
    }

    /// Continues after `quiesce` on a new stream, or on the same, with a new epoch.
    @discardableResult
    public func resume(stream: SharedDescriptor? = nil) async throws -> AgentState {
        reader?.cancel()
        writer?.cancel()
        writer = nil
        if let stream { self.stream = stream }
        // Until the agent accepted the greeting, nothing but it may be said.
        isQuiet = true
        let state = try await hello()
        isQuiesced = false
        isQuiet = false
        write(session.repeatedCredit())
        changed.open()
        for process in guestProcesses.values { process.changed.open() }
        disciplineClock()
        return state
    }

    /// A restored machine's processes, that another connection started (`hello(restored:)`); their streams go on where the agent was.
    public private(set) var adopted: [GuestProcess] = []

    private func adopt() {
        for state in session.takeAdopted() {
            let process = GuestProcess(state.process, pid: Int32(truncatingIfNeeded: state.pid), self)
            guestProcesses[state.process] = process
            adopted.append(process)
        }
    }

    // MARK: requests

    /// Mounts, network, clock and entropy of the sandbox; once after the boot. From then on the guest's clock follows the host's,
    /// unless `followsClock` says that `followClock` will be called: readings that wait behind other requests say little.
    public func configure(_ configuration: SandboxConfiguration, followsClock: Bool = true) async throws {
        let _: Done = try await ask(.configureSandbox, configuration)
        if followsClock { disciplineClock() }
    }

    /// Keeps the guest's clock with the host's from now on.
    public func followClock() { disciplineClock() }

    /// Makes the machine a new one, after a clone or a fork.
    public func setIdentity(_ identity: Identity) async throws { let _: Done = try await ask(.setIdentity, identity) }

    /// Mounts a container's root and makes its cgroup.
    public func createContainer(_ configuration: ContainerConfiguration) async throws {
        let _: Done = try await ask(.createContainer, configuration)
    }

    /// Starts a process; returns when its program runs. Throws `AgentFailure` with a code when it cannot.
    public func start(_ configuration: ProcessConfiguration) async throws -> GuestProcess {
        var configuration = configuration
        configuration.credit = Limits.outputWindow
        session.add(configuration.process)
        let process = GuestProcess(configuration.process, pid: 0, self)
        guestProcesses[configuration.process] = process
        do {
            let started: ProcessStarted = try await ask(.startProcess, configuration)
            process.pid = Int32(truncatingIfNeeded: started.pid)
            return process
        } catch {
            forget(configuration.process)
            throw error
        }
    }

    /// Lets a process go that was started `held`; returns when its program runs.
    public func release(_ process: GuestProcess) async throws {
        let _: ProcessStarted = try await ask(.releaseProcess, ProcessReference(process.number))
    }

    /// Signals every process of a container.
    public func signalAll(in container: String, _ signal: Int32) async throws {
        var request = SignalRequest()
        request.container = container
        request.signal = UInt32(bitPattern: signal)
        let _: Done = try await ask(.signal, request)
    }

    /// What runs in a container. Its texts come from the guest and are not to be trusted.
    public func processes(in container: String) async throws -> ProcessList {
        try await ask(.processes, ContainerReference(container))
    }

    /// What a container used.
    public func statistics(of container: String) async throws -> ContainerStatistics {
        try await ask(.stats, ContainerReference(container))
    }

    /// Changes a container's limits.
    public func update(_ container: String, _ limits: ContainerLimits) async throws {
        var request = UpdateRequest()
        request.container = container
        request.limits = limits
        let _: Done = try await ask(.updateContainer, request)
    }

    /// Takes that many processors into use, of those that the machine has, and loads the modules first. Throws an `AgentFailure` when the machine
    /// has not so many.
    public func resize(processors: Int, modules: [String]) async throws {
        var request = MachineSize()
        request.processors = UInt32(clamping: processors)
        request.modules = modules
        let _: Done = try await ask(.resizeMachine, request)
    }

    /// Kills what runs in a container and takes it apart; its disks stay mounted.
    public func removeContainer(_ container: String) async throws {
        let _: Done = try await ask(.removeContainer, ContainerReference(container))
    }

    /// Makes the guest forget inodes and names that nobody uses; a share server closes what it held open for them.
    public func reclaimInodes() async throws { let _: Done = try await ask(.reclaim, Done()) }

    /// The guest's clocks.
    public func ping() async throws -> ClockReading { try await ask(.ping, Done()) }

    /// Ends the machine. Returns when the agent has taken the order; the stream ends soon after.
    public func shutdown(_ mode: ShutdownMode = .clean, reboot: Bool = true) async throws {
        clock?.cancel()
        var request = ShutdownRequest()
        request.mode = mode
        request.reboot = reboot
        let _: Done = try await ask(.shutdown, request)
    }

    // MARK: the clock

    private func disciplineClock() {
        clock?.cancel()
        clock = Task { @Loop [weak self] in
            var discipline = ClockDiscipline()
            while !Task.isCancelled {
                do {
                    guard let pause = try await self?.correctClock(&discipline) else { return }
                    try await sleep(for: pause)
                } catch {
                    return  // the stream broke or was quiesced: everybody else is told
                }
            }
        }
    }

    /// Compares the clocks once and corrects the guest's; returns how long the correction is good for.
    private func correctClock(_ discipline: inout ClockDiscipline) async throws -> Duration {
        let before = ClockDiscipline.HostTime.now()
        let reading = try await ping()
        let after = ClockDiscipline.HostTime.now()
        let correction = discipline.add(.init(before: before, after: after, guest: reading))
        if let sample = discipline.last {
            onClock?(.nanoseconds(sample.offset), .nanoseconds(sample.uncertainty))
        }
        if let command = correction.command {
            let _: ClockReading = try await ask(.setClock, command)
        }
        return correction.pause
    }

    // MARK: for the processes

    /// Asks and waits for the answer.
    func ask<Q: WireMessage, A: WireMessage>(_ kind: RequestKind, _ question: Q, whileQuiet: Bool = false) async throws -> A {
        while isQuiet || !isGreeted, !whileQuiet {
            if let failure { throw failure }
            try await changed.wait()
        }
        if let failure { throw failure }
        let (id, bytes) = session.request(kind, question)
        write(bytes)
        let payload: [UInt8] = try await withTaskCancellationHandler {
            try Task.checkCancellation()
            return try await withCheckedThrowingContinuation { answers[id] = $0 }
        } onCancel: {
            Task { @Loop in self.answers.removeValue(forKey: id)?.resume(throwing: CancellationError()) }
        }
        do { return try A(decoding: payload, elements: Limits.elements) } catch {
            end(.violation("an answer that cannot be read"))
            throw AgentConnectionError(reason: .violation("an answer that cannot be read"))
        }
    }

    func take(_ process: UInt64, _ stream: StreamKind, _ count: Int) {
        let credit = session.take(process, stream, count)
        // While quiet it is only noted: the next epoch begins with all credit.
        if !isQuiet { write(credit) }
    }

    /// Sends as much as credit allows; returns how much that was.
    func sendInput(_ process: UInt64, _ bytes: ArraySlice<UInt8>) -> Int {
        guard !isQuiet else { return 0 }
        let (count, frame) = session.input(process, bytes)
        write(frame)
        return count
    }

    /// Ends a process's input; waits while a save holds the stream back.
    func sendInputEnd(_ process: UInt64) async {
        while isQuiet, failure == nil {
            do { try await changed.wait() } catch { return }
        }
        write(session.inputEnd(process))
    }

    /// Forgets a process whose streams nobody wants.
    func forget(_ process: UInt64) {
        session.remove(process)
        guestProcesses[process] = nil
    }

    // MARK: bytes

    private func write(_ bytes: [UInt8]) {
        guard failure == nil, !bytes.isEmpty else { return }
        outgoing.append(bytes)
        flush()
    }

    private func flush() {
        guard writer == nil else { return }
        let raw = stream.raw
        while !outgoing.isEmpty {
            let wrote = outgoing.drain { send(raw, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if wrote > 0 { continue }
            switch errno {
            case EINTR: continue
            case ENOTSOCK:
                let plain = outgoing.drain { Glibc.write(raw, $0.baseAddress, $0.count) }
                if plain > 0 { continue }
                if errno != EAGAIN { return end(.failed(String(cString: strerror(errno)))) }
                return waitToWrite()
            case EAGAIN: return waitToWrite()
            case EPIPE, ECONNRESET: return end(.ended)
            default: return end(.failed(String(cString: strerror(errno))))
            }
        }
    }

    private func waitToWrite() {
        writer = Task { @Loop [weak self, stream] in
            do { try await writable(stream.raw) } catch { return }  // cancelled: a new epoch, or the end
            self?.writer = nil
            self?.flush()
        }
    }

    private static func read(_ stream: SharedDescriptor, into connection: () -> AgentConnection?) async {
        while !Task.isCancelled {
            do { try await readable(stream.raw) } catch {
                if !Task.isCancelled { connection()?.end(.failed("\(error)")) }
                return
            }
            guard let connection = connection(), connection.stream === stream, connection.receive() else { return }
        }
    }

    /// Reads what is there and acts on it; whether to go on.
    private func receive() -> Bool {
        let raw = stream.raw
        for _ in 0..<16 {
            let got = session.fill(65536) { Glibc.read(raw, $0.baseAddress, $0.count) }
            if got == 0 {
                end(.ended)
                return false
            }
            if got < 0 {
                if errno == EAGAIN { return true }
                if errno == EINTR { continue }
                end(errno == ECONNRESET || errno == EIO ? .ended : .failed(String(cString: strerror(errno))))
                return false
            }
            do {
                while let event = try session.next() { handle(event) }
            } catch {
                end(.violation("\(error)"))
                return false
            }
            if failure != nil { return false }
        }
        return true
    }

    private func handle(_ event: HostSession.Event) {
        switch event {
        case .synchronised: break  // nobody waits for it: requests follow the greeting at once
        case .reply(let request, let payload):
            adopt()
            answers.removeValue(forKey: request)?.resume(returning: payload)
            changed.open()
        case .failure(let request, let failure):
            answers.removeValue(forKey: request)?.resume(throwing: failure)
            changed.open()
        case .output(let process, let stream, let bytes):
            if let found = guestProcesses[process] { found.arrived(stream, bytes) }
        case .outputEnd(let process, let stream): guestProcesses[process]?.ended(stream)
        case .credit(let process): guestProcesses[process]?.changed.open()
        case .inputClosed(let process): guestProcesses[process]?.closedInput()
        case .exited(let process, let exit):
            guestProcesses[process]?.exited(exit)
            forget(process)
        case .outOfMemory(let event): onOutOfMemory?(event)
        case .log(let line): onLog?(line)
        }
    }

    private func end(_ reason: AgentConnectionError.Reason) {
        guard failure == nil else { return }
        let error = AgentConnectionError(reason: reason)
        failure = error
        reader?.cancel()
        writer?.cancel()
        clock?.cancel()
        outgoing.removeAll()
        let waiting = answers
        answers = [:]
        for answer in waiting.values { answer.resume(throwing: error) }
        changed.open()
        for process in guestProcesses.values { process.broken(error) }
        guestProcesses = [:]
    }
}
