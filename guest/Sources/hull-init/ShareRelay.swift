import AgentProtocol
import CGuest

/// Carries what the kernel asks of a file system in user space (fuse(4)) to the host, and the answers back, through memory that both share: one message behind
/// the other, each begins with its length.
enum ShareRelay {
    /// The longest message: the host tells the kernel of limits below it.
    private static let limit = 132 << 10

    /// Mounts the share. A process of its own serves it from then on, because this one waits for files itself.
    static func mount(_ tag: String, at target: String) throws(AgentFailure) {
        let device = guest_open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK, 0)
        try Mounting.mount(
            tag, target, "fuse", 0, "fd=\(device),rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions")
        if guest_fork() == 0 { serve(device) }
        close(device)
    }

    private static func serve(_ device: Int32) -> Never {
        dup2(device, 0)
        close_range(1, ~0, 0)
        // Who serves files must not wait for files to be written back when memory is short (PR_SET_IO_FLUSHER).
        _ = guest_prctl(57, 1, 0, 0, 0)
        guard var port = Port.share(as: "data/hull-share") else { exit(1) }
        let request = UnsafeMutableRawBufferPointer.allocate(byteCount: limit, alignment: 8)
        let answer = UnsafeMutableRawBufferPointer.allocate(byteCount: limit, alignment: 8)
        let store = port.watchOffer()
        var offer = Port.Offer.stands
        // What of the request is to be written yet, and how much of the answer is there.
        var left = 0..<0
        var got = 0
        while true {
            if left.isEmpty {
                let count = read(0, request.baseAddress, limit)
                if count > 0 { left = 0..<count }
                // It was unmounted.
                if count < 0, guest_errno() == ENODEV { leave() }
            }
            var moved = 0
            if !left.isEmpty {
                moved = port.write(UnsafeRawBufferPointer(rebasing: request[left]))
                left = (left.lowerBound + moved)..<left.upperBound
            }
            let wanted = got < 16 ? 16 : min(limit, Int(answer.load(as: UInt32.self)))
            let more = port.read(UnsafeMutableRawBufferPointer(rebasing: answer[got..<max(got, wanted)]))
            got += more
            if got >= 16, got >= Int(answer.load(as: UInt32.self)) {
                // Who asked may have gone meanwhile.
                _ = write(0, answer.baseAddress, got)
                got = 0
            }
            if moved + more > 0 { continue }
            // Another container's files are served by another process.
            if offer == .isTakenBack { leave() }
            if offer != .stands {
                // Whatever the last one had answered is read.
                port.carryOver(offer)
                offer = .stands
                isElsewhere = true
                continue
            }
            var watched = (
                // That it was unmounted is told in any case.
                pollfd(fd: 0, events: left.isEmpty ? Int16(POLLIN) : 0, revents: 0),
                pollfd(fd: port.descriptor.number, events: Int16(POLLIN), revents: 0),
                pollfd(fd: store, events: Int16(POLLIN), revents: 0)
            )
            _ = withUnsafeMutableBytes(of: &watched) { poll($0.baseAddress!.assumingMemoryBound(to: pollfd.self), 3, -1) }
            if !left.isEmpty, watched.0.revents & Int16(POLLERR) != 0 { leave() }
            if watched.1.revents != 0 { _ = port.meaning(0) }
            if watched.2.revents != 0 { offer = port.offer(seenBy: store) }
        }
    }

    /// Whether the domain is another one than it began in.
    nonisolated(unsafe) private static var isElsewhere = false

    /// Ends. What it keeps open of a domain that is gone must never be closed (`Port.renew`), so that there it waits for the machine's end.
    private static func leave() -> Never {
        while isElsewhere { sleep(1_000_000) }
        exit(0)
    }
}
