import CLinux
import Glibc

/// A process named so that its number's next user is never mistaken for it: pid and start time (proc(5), field 22).
public struct ProcessIdentity: Hashable, Codable, Sendable {
    public var pid: Int32
    /// Clock ticks since the host's boot.
    public var startTime: UInt64

    /// The identity of `pid` now; nil when there is no such process.
    public init?(pid: Int32) {
        guard let now = Self.look(pid) else { return nil }
        self.pid = pid
        self.startTime = now.startTime
    }

    /// Whether that very process still runs. One that has ended or is about to (it may have closed some of its files by then, and hold others
    /// for a while yet) does not.
    public var isAlive: Bool {
        guard let now = Self.look(pid) else { return false }
        return now.startTime == startTime && !now.isEnding
    }

    private static func look(_ pid: Int32) -> (startTime: UInt64, isEnding: Bool)? {
        guard let stat = try? readText("/proc/\(pid)/stat"),  // gone is an answer, not an error
            let close = stat.lastIndex(of: ")")
        else { return nil }
        // The third field comes first here.
        let fields = stat[stat.index(after: close)...].split(separator: " ")
        guard fields.count > 19, let flags = UInt64(fields[6]), let start = UInt64(fields[19]) else { return nil }
        let exiting: UInt64 = 0x4  // PF_EXITING of the kernel's sched.h
        return (start, fields[0] == "Z" || fields[0] == "X" || flags & exiting != 0)
    }

    /// Sends `signal` to that very process; false when it is gone.
    @discardableResult
    public func signal(_ signal: Int32) -> Bool {
        let descriptor = hull_pidfd_open(pid)
        guard descriptor >= 0 else { return false }
        let held = OwnedDescriptor(owning: descriptor)
        guard ProcessIdentity(pid: pid) == self else { return false }
        return hull_pidfd_send_signal(held.raw, signal) == 0
    }
}
