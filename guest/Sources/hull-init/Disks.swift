import AgentProtocol
import CGuest

/// Finding block devices.
enum Disks {
    /// The device's path; waits a moment for a device that is just coming.
    static func device(_ name: String) throws(AgentFailure) -> String {
        if let path = find(name) { return path }
        let events = guest_netlink_socket(NETLINK_KOBJECT_UEVENT, 1)
        defer { if events >= 0 { close(events) } }
        let deadline = guest_clock(CLOCK_MONOTONIC) + 3_000_000_000
        var buffer = [UInt8](repeating: 0, count: 8192)
        while true {
            if let path = find(name) { return path }
            let now = guest_clock(CLOCK_MONOTONIC)
            guard events >= 0, now < deadline else {
                throw AgentFailure(.mount, "the disk \"\(name)\" is not in the guest; its driver may be missing in the kernel")
            }
            var wait = timeval(tv_sec: 1, tv_usec: 0)
            setsockopt(events, SOL_SOCKET, SO_RCVTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
            _ = recv(events, &buffer, buffer.count, 0)
        }
    }

    private static func find(_ name: String) -> String? {
        let prefix = Array("serial:".utf8)
        guard name.utf8.starts(with: prefix) else {
            return access(name, F_OK) == 0 ? name : nil
        }
        let serial = Array(name.utf8.dropFirst(prefix.count))
        for block in Directory.names("/sys/block") where Array(TextFile.readLine("/sys/block/\(block)/serial").utf8) == serial {
            let path = "/dev/" + block
            return access(path, F_OK) == 0 ? path : nil
        }
        return nil
    }
}
