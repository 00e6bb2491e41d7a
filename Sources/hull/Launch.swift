import Glibc
import LinuxSystem
import Sandboxes

/// Starts a container's monitor: PID 1 of a pid and a mount namespace of its own, out of this terminal's reach, so that it
/// outlives the verb and takes everything with it when it ends.
enum Launch {
    /// The process, and the first connection to it, over which it waits for `start`.
    @Loop static func monitor(of container: Container) async throws -> (client: MonitorClient, process: ChildProcess) {
        if let warning = try SharedTree.warning(for: container.record) { StandardStreams.complain("hull: \(warning)") }
        let (ours, theirs) = try makeSocketPair(nonBlocking: true)
        let log = SharedDescriptor(try openFile(container.paths.monitorLog, O_WRONLY | O_CREAT | O_APPEND))
        let null = SharedDescriptor(try openFile("/dev/null", O_RDWR))
        var how = Spawn("/proc/self/exe", ["monitor", container.id], environment: environment())
        how.arguments[0] = "hull-monitor"
        how.descriptors = [(null, 0), (null, 1), (log, 2), (theirs, 3)]
        how.namespaces = 0x2000_0000 | 0x0002_0000  // CLONE_NEWPID, CLONE_NEWNS
        how.newSession = true
        how.directory = "/"
        let process = try how.spawn()
        return (MonitorClient(ours), process)
    }

    /// Nothing of the user's environment but what Hull itself reads.
    private static func environment() -> [String] {
        let roots = Globals.roots
        var all = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HULL_ROOT=\(roots.data)", "HULL_EXEC_ROOT=\(roots.runtime)",
        ]
        for name in ["HULL_BOOT_TIMEOUT", "HULL_FAULT", "HULL_LIBEXEC", "HULL_QEMU"] {
            if let value = Globals.environment(name) { all.append("\(name)=\(value)") }
        }
        return all
    }
}
