import AgentProtocol
import CGuest

/// What runs in a container, from /proc.
enum ProcessTable {
    static func list(_ cgroup: Cgroup) -> ProcessList {
        var list = ProcessList()
        var size = 0
        let boot = guest_clock(CLOCK_REALTIME) &- guest_clock(CLOCK_BOOTTIME)
        for pid in cgroup.pids().sorted() {
            guard list.processes.count < 4096, size < Limits.reply / 2 else {
                list.truncated = true
                break
            }
            guard let entry = read(pid, boot) else { continue }
            size += 128
            for argument in entry.arguments { size += argument.utf8.count + 8 }
            list.processes.append(entry)
        }
        return list
    }

    private static func read(_ pid: Int32, _ boot: UInt64) -> ProcessEntry? {
        let stat = TextFile.read("/proc/\(pid)/stat", limit: 4096)
        guard let open = stat.firstIndex(of: 40), let close = stat.lastIndex(of: 41), open < close else { return nil }
        let fields = Scan.words(stat[(close + 1)...])
        guard fields.count > 21 else { return nil }
        var entry = ProcessEntry()
        entry.pid = UInt32(pid)
        entry.state = Scan.text(fields[0])
        entry.parent = UInt32(truncatingIfNeeded: Scan.number(fields[1]) ?? 0)
        entry.terminal = UInt32(truncatingIfNeeded: Scan.number(fields[4]) ?? 0)
        let tick: UInt64 = 10_000_000
        entry.cpu = ((Scan.number(fields[11]) ?? 0) &+ (Scan.number(fields[12]) ?? 0)) &* tick
        entry.started = boot &+ (Scan.number(fields[19]) ?? 0) &* tick
        entry.resident = (Scan.number(fields[21]) ?? 0) &* 4096
        for line in Scan.split(TextFile.read("/proc/\(pid)/status", limit: 8192), 10) where line.starts(with: "Uid:".utf8) {
            let words = Scan.words(line)
            if words.count > 1 { entry.uid = UInt32(truncatingIfNeeded: Scan.number(words[1]) ?? 0) }
        }
        var command = TextFile.read("/proc/\(pid)/cmdline", limit: 8192)
        if command.last == 0 { command.removeLast() }
        if command.isEmpty {
            entry.arguments = ["[" + Scan.text(Array(stat[(open + 1)..<close])) + "]"]
        } else {
            entry.arguments = Scan.split(command, 0).map(Scan.text)
        }
        return entry
    }
}
