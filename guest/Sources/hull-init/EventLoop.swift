import CGuest

/// What an event is about.
enum Watched: UInt64 {
    case port = 1
    case signals
    case output
    case error
    case input
    case terminal
    case start
    case memory
    case store
}

/// One epoll instance; tokens name what is watched and whose it is.
struct EventLoop: ~Copyable {
    private let epoll: Descriptor

    init() throws(KernelError) {
        epoll = Descriptor(owning: try KernelError.check(epoll_create1(Int32(EPOLL_CLOEXEC))))
    }

    /// Begins to watch.
    borrowing func add(_ descriptor: Int32, _ events: UInt32, _ what: Watched, _ id: UInt64 = 0) {
        var event = epoll_event(events: events, data: epoll_data_t(u64: what.rawValue << 56 | id))
        _ = epoll_ctl(epoll.number, EPOLL_CTL_ADD, descriptor, &event)
    }

    /// Changes what is watched for.
    borrowing func change(_ descriptor: Int32, _ events: UInt32, _ what: Watched, _ id: UInt64 = 0) {
        var event = epoll_event(events: events, data: epoll_data_t(u64: what.rawValue << 56 | id))
        _ = epoll_ctl(epoll.number, EPOLL_CTL_MOD, descriptor, &event)
    }

    /// Ends watching.
    borrowing func remove(_ descriptor: Int32) {
        _ = epoll_ctl(epoll.number, EPOLL_CTL_DEL, descriptor, nil)
    }

    /// Waits; calls `body` with what, whose, and the events.
    borrowing func wait(_ milliseconds: Int32, _ body: (Watched, UInt64, UInt32) -> Void) {
        var events = [epoll_event](repeating: epoll_event(), count: 32)
        let count = epoll_wait(epoll.number, &events, Int32(events.count), milliseconds)
        guard count > 0 else { return }
        for index in 0..<Int(count) {
            let token = events[index].data.u64
            guard let what = Watched(rawValue: token >> 56) else { continue }
            body(what, token & (1 << 56 - 1), events[index].events)
        }
    }
}

/// epoll's bits as numbers.
enum Ready {
    static let input = EPOLLIN.rawValue
    static let output = EPOLLOUT.rawValue
    static let hangUp = EPOLLHUP.rawValue
    static let urgent = EPOLLPRI.rawValue
    static let edge = UInt32(1) << 31
}
