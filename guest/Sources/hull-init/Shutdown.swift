import AgentProtocol
import CGuest

/// The end of the machine.
enum Shutdown {
    static func perform(_ request: ShutdownRequest, _ agent: Agent) -> Never {
        if request.mode == .clean {
            for container in agent.containers.values { container.cgroup.killAll() }
            _ = kill(-1, SIGKILL)
            let deadline = guest_clock(CLOCK_MONOTONIC) + 3_000_000_000
            var set = sigset_t()
            sigemptyset(&set)
            sigaddset(&set, SIGCHLD)
            while guest_clock(CLOCK_MONOTONIC) < deadline {
                let pid = waitpid(-1, nil, WNOHANG)
                if pid < 0 { break }
                if pid == 0 {
                    var wait = timespec(tv_sec: 0, tv_nsec: 100_000_000)
                    _ = sigtimedwait(&set, nil, &wait)
                }
            }
            for container in agent.containers.values {
                if umount2(container.rootPath, 0) < 0 { _ = umount2(container.rootPath, Int32(MNT_DETACH)) }
            }
            for disk in agent.disks.values where umount2(disk, 0) < 0 {
                _ = guest_mount(nil, disk, nil, UInt(MS_REMOUNT | MS_RDONLY), nil)
            }
            if !agent.share.utf8.isEmpty { _ = umount2(agent.share, 0) }
            sync()
        } else {
            for disk in agent.disks.values {
                let folder = guest_open(disk, O_RDONLY | O_DIRECTORY, 0)
                if folder >= 0 {
                    _ = syncfs(folder)
                    close(folder)
                }
            }
        }
        if request.reboot { _ = reboot(Int32(RB_AUTOBOOT)) }
        _ = reboot(Int32(bitPattern: UInt32(RB_POWER_OFF)))
        exit(0)
    }
}
