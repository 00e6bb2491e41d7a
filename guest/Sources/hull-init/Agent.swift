import AgentProtocol
import CGuest

/// The agent: one loop, one stream to the host, the containers and their processes.
final class Agent {
    let loop: EventLoop
    var port: Port
    var session = GuestSession()
    var queue = ByteQueue()
    /// Whether the host listens.
    var greeted: Bool { session.isGreeted }
    var isPrepared = false
    var isConfigured = false
    /// Whether containers are frozen, for a save.
    var isStill = false
    var portWritable = true
    /// Whether output waits until the queue to the host is empty.
    var isHeldBack = false
    var containers: [String: Container] = [:]
    var processes: [UInt64: Process] = [:]
    var disks: [String: String] = [:]
    var share = ""
    /// Cgroups that could not be removed yet.
    var dying: [String] = []
    /// A child that is prepared to become a container's first process.
    var waiting: WaitingChild?
    var shuttingDown: ShutdownRequest?
    /// Processes whose small writes are being collected.
    var deferred: [UInt64] = []
    private let signals: Descriptor
    /// What tells of changes of the offer to the host, where the stream is shared memory.
    private let store: Int32
    /// Room for one read of output, as frames: a header's place before each piece.
    var chunk = [UInt8](repeating: 0, count: Agent.pieces * (FrameHeader.size + Limits.data))
    /// How many frames one read of output may fill.
    static let pieces = 4
    private var logAllowance = 200

    init(port: consuming Port) throws(KernelError) {
        loop = try EventLoop()
        self.port = port
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGCHLD)
        sigprocmask(SIG_BLOCK, &set, nil)
        signals = Descriptor(
            owning: try KernelError.check(signalfd(-1, &set, Int32(SFD_NONBLOCK | SFD_CLOEXEC))))
        loop.add(signals.number, Ready.input, .signals)
        // The port says "hung up" all the time while no host is there: edges only.
        loop.add(self.port.descriptor.number, Ready.input | Ready.output | Ready.edge, .port)
        store = self.port.watchOffer()
        if store >= 0 { loop.add(store, Ready.input, .store) }
    }

    /// Runs until the machine ends.
    func run() -> Never {
        readPort()
        while true {
            flush()
            while isHeldBack, queue.isEmpty {
                isHeldBack = false
                pumpAll()
                flush()
            }
            // Here, and not after the events: of memory that is shared no event says that the answer was taken.
            if let request = shuttingDown, queue.isEmpty { Shutdown.perform(request, self) }
            loop.wait(deferred.isEmpty ? -1 : 2) { what, id, events in self.handle(what, id, events) }
            pumpDeferred()
        }
    }

    private func handle(_ what: Watched, _ id: UInt64, _ events: UInt32) {
        switch what {
        case .port:
            let events = port.meaning(events)
            if events & Ready.hangUp != 0 { hostLeft() }
            if events & (Ready.input | Ready.hangUp) != 0 { readPort() }
            // Each buffer that the host takes is an event: only where somebody waits for room is it news.
            if events & Ready.output != 0, !portWritable {
                portWritable = true
                pumpAll()
            }
        case .signals:
            var info = signalfd_siginfo()
            while read(signals.number, &info, MemoryLayout<signalfd_siginfo>.size) > 0 {}
            reap()
        case .start: if let process = processes[id] { readStart(process) }
        case .output, .terminal: if let process = processes[id], !isDeferred(process, .output) { pump(process, .output) }
        case .error: if let process = processes[id], !isDeferred(process, .error) { pump(process, .error) }
        case .input: if let process = processes[id] { writeInput(process) }
        case .memory: memoryEvent(id)
        case .store: lookAtOffer()
        }
    }

    // MARK: the stream to the host

    private func hostLeft() {
        session.reset()
        queue.removeAll()
    }

    /// Offers the host another stream where the last offer is void.
    private func lookAtOffer() {
        let offer = port.offer(seenBy: store)
        guard offer != .stands else { return }
        loop.remove(port.descriptor.number)
        port.renew(offer)
        loop.add(port.descriptor.number, Ready.input | Ready.output | Ready.edge, .port)
        hostLeft()
        portWritable = true
    }

    private func readPort() {
        while true {
            let got = session.fill(65536) { port.read($0) }
            if got <= 0 { return }
            arrival = guest_clock(CLOCK_MONOTONIC)
            while true {
                do throws(WireError) {
                    guard let event = try session.next() else { break }
                    try handle(event)
                } catch {
                    console("bytes of the host make no sense; waiting for it to begin anew")
                    session.silence()
                }
            }
        }
    }

    /// When the bytes that are handled arrived; a wall clock in them was right then.
    private(set) var arrival: UInt64 = 0

    private func handle(_ event: GuestSession.Event) throws(WireError) {
        switch event {
        case .begin(let epoch):
            queue.removeAll()
            queue.append(FrameHeader(.synchronise, offset: epoch).encoded)
        case .request(let header, let kind, let payload): answer(kind, Frame(header, payload))
        case .unknownRequest(let header):
            fail(header, AgentFailure(.invalid, "the agent knows no request \(header.type)"))
        case .input(let id, let offset, let bytes):
            guard let process = processes[id] else { return }
            try process.inputWindow.accept(at: offset, count: bytes.count)
            if process.input != nil || process.pendingRequest != nil { process.inputQueue.append(bytes) }
            if process.pendingRequest == nil { writeInput(process) }
        case .inputEnd(let id, let offset):
            guard let process = processes[id] else { return }
            try process.inputWindow.acceptEnd(at: offset)
            process.inputEnds = true
            if process.pendingRequest == nil { writeInput(process) }
        case .credit(let id, let stream, let limit):
            guard let process = processes[id] else { return }
            if stream == .output { process.outputWindow.allow(upTo: limit) } else { process.errorWindow.allow(upTo: limit) }
            pump(process, stream)
        }
    }

    /// Answers a request with a message.
    func reply<M: WireMessage>(_ header: FrameHeader, _ message: M) {
        send(.reply, header.type, header.id, message)
    }

    /// Answers a request with what went wrong.
    func fail(_ header: FrameHeader, _ failure: AgentFailure) {
        send(.failure, header.type, header.id, failure)
    }

    /// Queues a message; drops it when no epoch runs (its state is told in the next one).
    func send<M: WireMessage>(_ kind: FrameKind, _ type: UInt16, _ id: UInt64, _ message: M) {
        guard session.inEpoch else { return }
        let payload = message.encoded()
        queue.append(FrameHeader(kind, type: type, length: payload.count, id: id).encoded)
        queue.append(payload)
    }

    /// A line for the sandbox's log; only so many of them between two requests.
    func log(_ text: String) {
        guard logAllowance > 0, greeted else { return }
        logAllowance -= 1
        send(.event, EventKind.log.rawValue, 0, LogLine(text))
    }

    func allowLogging() { logAllowance = 200 }

    /// Writes what is queued, as far as the port takes it.
    func flush() {
        while portWritable, !queue.isEmpty {
            let wrote = queue.drain { port.write(UnsafeRawBufferPointer(rebasing: $0.prefix(65536))) }
            if wrote < 0 {
                let error = guest_errno()
                if error == EINTR { continue }
                portWritable = false
                if error != EAGAIN { hostLeft() }
            } else if wrote == 0 {
                portWritable = false
            }
        }
    }
}
