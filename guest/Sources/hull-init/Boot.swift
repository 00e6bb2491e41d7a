import AgentProtocol
import CGuest

/// From the kernel's hand-over to an open port to the host.
enum Boot {
    /// The private directory of the agent.
    static let directory = "/run/hull"
    /// The port's name in the machine's description.
    static let portName = "hull.agent"

    /// The file systems without which nothing can be looked at.
    static func mountKernelFileSystems() {
        try? Mounting.makeDirectory("/proc")  // a failure shows in the mount, which is checked
        try? Mounting.makeDirectory("/sys")  // as above
        try? Mounting.makeDirectory("/dev")  // as above
        check("/dev") { () throws(AgentFailure) in try Mounting.mount("dev", "/dev", "devtmpfs", UInt(MS_NOSUID)) }
        check("/proc") { () throws(AgentFailure) in
            try Mounting.mount("proc", "/proc", "proc", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC))
        }
        check("/sys") { () throws(AgentFailure) in
            try Mounting.mount("sysfs", "/sys", "sysfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC))
        }
    }

    /// Makes the root one that can be left: the kernel refuses pivot_root away from its first ("the rootfs cannot be
    /// pivot_root()ed"), so it is mounted a second time, on top of itself.
    static func replaceRoot() {
        check("root") { () throws(AgentFailure) in
            try Mounting.makeDirectory("/self")
            try Mounting.mount("/", "/self", nil, UInt(MS_BIND))
            _ = chdir("/self")
            try Mounting.mount(".", "/", nil, UInt(MS_MOVE))
            _ = chroot(".")
            _ = chdir("/")
        }
    }

    /// What can wait until the host was greeted.
    static func prepareForContainers() {
        loadRemaining()
        check("directories") { () throws(AgentFailure) in
            try Mounting.makeDirectory("/run")
            try Mounting.mount("run", "/run", "tmpfs", UInt(MS_NOSUID | MS_NODEV), "mode=0700")
            try Mounting.makeDirectory(directory)
            try Mounting.makeDirectory(directory + "/containers")
            try Mounting.makeDirectory(directory + "/disks")
            try Mounting.makeDirectory(directory + "/share")
            // Where the kernel looks for the program that loads modules on demand.
            try Mounting.makeDirectory("/sbin")
            _ = symlink("/init", "/sbin/modprobe")
        }
        check("cgroup2") { () throws(AgentFailure) in
            try Mounting.mount(
                "cgroup2", "/sys/fs/cgroup", "cgroup2", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC),
                "nsdelegate")
            try Cgroup.prepare()
        }
        _ = try? TextFile.write("/proc/self/oom_score_adj", "-1000")  // the default is survivable, an absent /proc is not
        // Half of what wakes an idle guest is the kernel's looking, twice a second, whether memory is in pieces. It looks when it must, too.
        _ = try? TextFile.write("/proc/sys/vm/compaction_proactiveness", "0")  // a kernel without it does not look
    }

    private static func check(_ what: String, _ body: () throws(AgentFailure) -> Void) {
        do throws(AgentFailure) { try body() } catch { console("\(what): \(error.message)") }
    }

    /// Loads modules until the port to the host is there, and opens it; events tell, nothing sleeps.
    static func openPort() -> Port {
        let events = guest_netlink_socket(NETLINK_KOBJECT_UEVENT, 1)
        defer { if events >= 0 { close(events) } }
        remaining = BootModules.order()
        var buffer = [UInt8](repeating: 0, count: 8192)
        while true {
            if let port = findPort() { return Port(owning: port) }
            if let port = Port.share() { return port }
            if !remaining.isEmpty {
                // The port comes a moment after its driver; what else must be loaded fills that moment.
                BootModules.load(remaining.removeFirst())
                continue
            }
            var isPort = false
            while !isPort {
                let got = events < 0 ? -1 : recv(events, &buffer, buffer.count, 0)
                if got < 0 {
                    if events >= 0, guest_errno() == ENOBUFS { break }
                    console("waiting for the port \(portName): the kernel sends no events")
                    sleep(1)
                    break
                }
                isPort = contains(buffer[0..<got], "virtio-ports")
            }
        }
    }

    private static func contains(_ bytes: ArraySlice<UInt8>, _ text: String) -> Bool {
        let wanted = Array(text.utf8)
        guard bytes.count >= wanted.count else { return false }
        for start in bytes.startIndex...(bytes.endIndex - wanted.count)
        where bytes[start] == wanted[0] && bytes[start..<(start + wanted.count)].elementsEqual(wanted) {
            return true
        }
        return false
    }

    nonisolated(unsafe) private static var remaining: [String] = []

    /// Loads what was left out on the way to the port.
    static func loadRemaining() {
        for name in remaining { BootModules.load(name) }
        remaining = []
    }

    private static func findPort() -> Int32? {
        guard let folder = opendir("/sys/class/virtio-ports") else { return nil }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = Directory.name(entry)
            guard name.utf8.first != 46 else { continue }
            if TextFile.readLine("/sys/class/virtio-ports/\(name)/name") == portName {
                let opened = guest_open("/dev/\(name)", O_RDWR | O_NONBLOCK, 0)
                if opened >= 0 { return opened }
                console("opening /dev/\(name): \(KernelError(-opened).words)")
            }
        }
        return nil
    }
}

/// Listing directories.
enum Directory {
    /// An entry's name.
    static func name(_ entry: UnsafeMutablePointer<dirent>) -> String {
        withUnsafePointer(to: &entry.pointee.d_name) { pointer in
            pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
    }

    /// Removes a directory and all that is in it, as far as it goes; nothing is followed.
    static func remove(_ path: String) {
        for name in names(path) where unlink(path + "/" + name) < 0 { remove(path + "/" + name) }
        _ = rmdir(path)
    }

    /// The names in a directory but `.` and `..`; empty when it cannot be read.
    static func names(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = name(entry)
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
