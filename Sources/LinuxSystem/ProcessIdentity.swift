import CLinux
import Glibc

/// A process named so that its number's next user is never mistaken for it: pid and start time (proc(5), field 22).
public struct ProcessIdentity: Hashable, Codable, Sendable {
    public var pid: Int32
    /// Clock ticks since the host's boot.
    public var startTime: UInt64

    /// The identity of `pid` now; nil when there is no such process.
    public init?(pid: Int32) {
        guard let stat = try? readText("/proc/\(pid)/stat"),  // gone is an answer, not an error
            let close = stat.lastIndex(of: ")")
        else { return nil }
        let fields = stat[stat.index(after: close)...].split(separator: " ")
        guard fields.count > 19, let start = UInt64(fields[19]) else { return nil }
        self.pid = pid
        self.startTime = start
    }

    /// Whether that very process still exists (a zombie does not).
    public var isAlive: Bool {
        guard ProcessIdentity(pid: pid) == self, let stat = try? readText("/proc/\(pid)/stat"),  // gone is an answer
            let close = stat.lastIndex(of: ")")
        else { return false }
        return !stat[stat.index(after: close)...].hasPrefix(") Z")
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
