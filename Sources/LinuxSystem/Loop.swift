import CLinux
import Glibc
import Synchronization

/// The one thread on which everything of a Hull process on the host runs: an executor around epoll. Nothing here is
/// ever called from two threads at once, but for `enqueue`, which tests and signal-free callers may use from anywhere.
@globalActor
public actor Loop {
    public static let shared = Loop()
    nonisolated static let executor = EventLoop()

    public nonisolated var unownedExecutor: UnownedSerialExecutor {
        Self.executor.asUnownedSerialExecutor()
    }

    /// Runs `body` on the calling thread, which becomes the loop's until `body` returns. Call it once, from `main`.
    public nonisolated static func run<R: Sendable>(_ body: @escaping @Loop @Sendable () async -> R)
        -> R
    {
        takeAllJobs()
        let box = Mutex<R?>(nil)
        return withUnsafeBox(box) { set, get in
            Task { @Loop in
                set(await body())
                executor.stop()
            }
            executor.run()
            return get()!
        }
    }

    // Jobs of no actor run here too: one thread. libdispatch's pool also looks at its threads below /proc by their numbers, and
    // ends a process that has a pid namespace of its own but the host's /proc.
    private nonisolated static func takeAllJobs() {
        hull_take_global_jobs { job in Loop.executor.enqueue(unsafeBitCast(job, to: UnownedJob.self)) }
    }

    private nonisolated static func withUnsafeBox<R: Sendable>(
        _ box: consuming Mutex<R?>, _ body: (@escaping @Sendable (R) -> Void, () -> R?) -> R
    ) -> R {
        let shared = SharedBox(box)
        return body({ value in shared.value.withLock { $0 = value } }, { shared.value.withLock { $0 } })
    }

    /// Lets the loop run on a thread of its own: for tests, whose main thread belongs to the test runner.
    public nonisolated static func runInBackground() { _ = background }

    private nonisolated static let background: Void = {
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { _ in
                Loop.executor.run()
                return nil
            }, nil)
        pthread_detach(thread)
    }()
}

private final class SharedBox<R: Sendable>: Sendable {
    let value: Mutex<R?>
    init(_ value: consuming Mutex<R?>) { self.value = value }
}

/// An executor that waits in `epoll_wait` when it has no job: epoll(7), one-shot registrations.
final class EventLoop: SerialExecutor {
    typealias Waiting = CheckedContinuation<Void, any Error>

    private struct Waiter {
        let id: UInt64
        let events: UInt32
        let continuation: Waiting
    }
    private struct Timer {
        let id: UInt64
        let deadline: ContinuousClock.Instant
        let continuation: Waiting
    }
    private struct State {
        var jobs: [UnownedJob] = []
        var waiters: [Int32: [Waiter]] = [:]
        var timers: [Timer] = []
        var stopping = false
        var asleep = false
        var thread: pthread_t?
    }

    private let state = Mutex(State())
    private let epoll = epoll_create1(O_CLOEXEC)
    private let wake = eventfd(0, O_CLOEXEC | O_NONBLOCK)
    private let identifiers = Atomic<UInt64>(1)

    init() {
        // A reader that went away is an error of write(2), not this process's end. Children get the default back.
        signal(SIGPIPE, SIG_IGN)
        var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(fd: wake))
        epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &event)
    }

    func newIdentifier() -> UInt64 { identifiers.wrappingAdd(1, ordering: .relaxed).oldValue }

    func enqueue(_ job: consuming ExecutorJob) { enqueue(UnownedJob(job)) }

    func enqueue(_ job: UnownedJob) {
        let asleep = state.withLock { state in
            state.jobs.append(job)
            return state.asleep
        }
        if asleep { kick() }
    }

    func isIsolatingCurrentContext() -> Bool? {
        state.withLock { $0.thread.map { pthread_equal($0, pthread_self()) != 0 } } ?? false
    }

    func checkIsolated() { precondition(isIsolatingCurrentContext() == true, "not on Hull's loop") }

    func stop() {
        state.withLock { $0.stopping = true }
        kick()
    }

    private func kick() {
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
    }

    func run() {
        state.withLock { $0.thread = pthread_self() }
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        while true {
            let (jobs, stopping) = state.withLock { state in
                defer { state.jobs.removeAll(keepingCapacity: true) }
                return (state.jobs, state.stopping)
            }
            for job in jobs { job.runSynchronously(on: asUnownedSerialExecutor()) }
            if stopping && jobs.isEmpty { return }
            let timeout: Int32 = state.withLock { state in
                guard state.jobs.isEmpty, !state.stopping else { return 0 }
                state.asleep = true
                guard let first = state.timers.first else { return -1 }
                let left = ContinuousClock.now.duration(to: first.deadline).components
                if left.seconds < 0 { return 0 }
                let milliseconds =
                    left.seconds * 1000 + (left.attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
                return Int32(clamping: max(0, milliseconds))
            }
            let count = epoll_wait(epoll, &events, 64, timeout)
            deliver(count > 0 ? events[..<Int(count)] : [])
        }
    }

    private func deliver(_ events: ArraySlice<epoll_event>) {
        var ready: [Waiting] = []
        let now = ContinuousClock.now
        state.withLock { state in
            state.asleep = false
            for event in events {
                let fd = event.data.fd
                if fd == wake {
                    var count: UInt64 = 0
                    _ = read(wake, &count, 8)
                    continue
                }
                guard let waiters = state.waiters[fd] else { continue }
                // An error or a hang-up is news for whoever waits, for whatever: the next call will tell it.
                let ended = event.events & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0
                var left: [Waiter] = []
                for waiter in waiters {
                    if ended || event.events & waiter.events != 0 {
                        ready.append(waiter.continuation)
                    } else {
                        left.append(waiter)
                    }
                }
                state.waiters[fd] = left.isEmpty ? nil : left
                if !left.isEmpty { _ = arm(fd, left) }
            }
            while let first = state.timers.first, first.deadline <= now {
                ready.append(first.continuation)
                state.timers.removeFirst()
            }
        }
        for continuation in ready { continuation.resume() }
    }

    private func arm(_ fd: Int32, _ waiters: [Waiter]) -> Int32 {
        var event = epoll_event(
            events: waiters.reduce(EPOLLONESHOT.rawValue) { $0 | $1.events }, data: epoll_data_t(fd: fd))
        if epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) == 0 { return 0 }
        if errno != ENOENT { return errno }
        return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno
    }

    /// Resumes `continuation` when `fd` has one of `events`.
    func wait(_ fd: Int32, _ events: UInt32, _ id: UInt64, _ continuation: Waiting) {
        let failure: Int32 = state.withLock { state in
            let all =
                (state.waiters[fd] ?? []) + [Waiter(id: id, events: events, continuation: continuation)]
            let failure = arm(fd, all)
            if failure == 0 { state.waiters[fd] = all }
            return failure
        }
        switch failure {
        case 0: break
        case EPERM: continuation.resume()  // a regular file: never blocks, and epoll takes none
        default: continuation.resume(throwing: SystemError("wait for descriptor \(fd)", code: failure))
        }
    }

    func sleep(until deadline: ContinuousClock.Instant, _ id: UInt64, _ continuation: Waiting) {
        let asleep = state.withLock { state in
            let index = state.timers.firstIndex { $0.deadline > deadline } ?? state.timers.endIndex
            state.timers.insert(Timer(id: id, deadline: deadline, continuation: continuation), at: index)
            return state.asleep
        }
        if asleep { kick() }
    }

    /// Ends a wait that was cancelled.
    func cancel(_ id: UInt64, descriptor fd: Int32?) {
        let found = state.withLock { state -> Waiting? in
            guard let fd else {
                guard let index = state.timers.firstIndex(where: { $0.id == id }) else { return nil }
                return state.timers.remove(at: index).continuation
            }
            guard var waiters = state.waiters[fd], let index = waiters.firstIndex(where: { $0.id == id })
            else { return nil }
            let continuation = waiters.remove(at: index).continuation
            if waiters.isEmpty {
                state.waiters[fd] = nil
                var none = epoll_event()
                epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &none)
            } else {
                state.waiters[fd] = waiters
                _ = arm(fd, waiters)
            }
            return continuation
        }
        found?.resume(throwing: CancellationError())
    }
}
