import CLinux
import AgentClient
import Glibc
import LinuxSystem
import Machines

/// Keeps a share server within its limit of open files: it holds one for every file the guest knows, and a guest that walks a
/// big tree knows all of it. Above half of the limit the guest is asked to forget what nobody uses (docs/adr/001).
struct DescriptorGuard: Sendable {
    /// The server's limit of open files.
    let limit: UInt64

    /// The guard of the process whose `/proc/PID/limits` reads so; nil where that names no limit.
    init?(limits text: String) {
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("Max open files") }),
            let soft = line.split(separator: " ").dropFirst(3).first, let limit = UInt64(soft)
        else { return nil }
        self.limit = limit
    }

    /// Between two looks: so short that no guest seen so far learns of half as many files meanwhile.
    var period: Duration { .microseconds(min(max(limit, 2000), 1 << 20) * 5) }

    /// Whether so many open files are too many.
    func isCrowded(_ open: UInt64) -> Bool { open > limit / 2 }

    /// The pause after the guest forgot: longer each time that it did not help, because what it knows it uses.
    func pause(after last: Duration, before: UInt64, now: UInt64) -> Duration {
        now > before / 4 * 3 ? min(last * 2, max(period, .seconds(2))) : period
    }

    /// Watches the share server of `machine` until the task is cancelled or the machine ends; nothing to do where there is none.
    @Loop static func watch(_ machine: any VirtualMachine, _ agent: AgentConnection) async throws {
        guard let server = machine.processes.first(where: { $0.role == "virtiofsd" })?.identity,
            let limits = try? readText("/proc/\(server.pid)/limits"),  // it has ended: so will the machine
            let guardian = DescriptorGuard(limits: limits)
        else { return }
        var pause = guardian.period
        while true {
            try await sleep(for: pause)
            guard let before = openFiles(of: server.pid) else { return }
            if guardian.isCrowded(before) {
                try await agent.reclaimInodes()
                guard let now = openFiles(of: server.pid) else { return }
                pause = guardian.pause(after: pause, before: before, now: now)
            } else {
                pause = guardian.period
            }
        }
    }

    /// How many files the process has open: proc_pid_fd(5); nil when it is gone. Linux before 6.2 gives no number, then they are counted.
    static func openFiles(of pid: Int32) -> UInt64? {
        var status = stat()
        guard stat("/proc/\(pid)/fd", &status) == 0 else { return nil }
        if status.st_size > 0 { return UInt64(status.st_size) }
        return (try? listDirectory("/proc/\(pid)/fd")).map { UInt64($0.count) }  // gone meanwhile
    }
}
