import Glibc
import LinuxSystem
import Sandboxes

/// `monitor ID tty|-`: the owner of one sandbox. Hull starts it itself; descriptor 3 is its first connection, 4 the sandbox's lock, 5
/// the host's side of the terminal.
enum MonitorVerb {
    static func main(_ words: [String]) -> Never {
        var status = stat()
        guard getpid() == 1, words.count == (words.first == "member" ? 4 : 3), fstat(3, &status) == 0,
            status.st_mode & S_IFMT == S_IFSOCK
        else {
            StandardStreams.complain("hull-runtime monitor is started by hull-runtime itself: use create")
            exit(1)
        }
        let id = words[1]
        let hasTerminal = words[2] == "tty"
        let code = Loop.run { () async -> Int32 in
            do {
                for number in [3, 4, 5] as [Int32] where fcntl(number, F_GETFD) >= 0 { try setCloseOnExec(number, true) }
            } catch {
                return 1
            }
            let lock = SharedDescriptor(owning: 4)
            let terminal = hasTerminal ? SharedDescriptor(owning: 5) : nil
            if words.count == 4 {
                let member = EngineMember(id: id, roots: Globals().roots, sandbox: words[3], terminal: terminal)
                let code = await member.run(first: SharedDescriptor(owning: 3))
                withExtendedLifetime(lock) {}
                return code
            }
            let monitor = EngineMonitor(
                id: id, roots: Globals().roots, drivers: Drivers.all, terminal: terminal)
            let code = await monitor.run(first: SharedDescriptor(owning: 3))
            withExtendedLifetime(lock) {}
            return code
        }
        exit(code)
    }
}
