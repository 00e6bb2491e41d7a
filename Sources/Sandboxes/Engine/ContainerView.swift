import CLinux
import Glibc
import LinuxSystem

/// What somebody sees who joins the monitor's mount namespace, as Podman does to copy files: the container's root with its bind mounts,
/// laid over the namespace's own. The monitor itself stays below, with the host's files: a mount over `/` moves nobody who is there.
enum ContainerView {
    /// Lays it. The mount points must be in the root already; where one is not, its mount is left out.
    static func build(root: String, _ mounts: [ResolvedMount]) throws {
        let view = try DetachedMount(of: root, recursive: true)
        let top = try view.place()
        try view.attach(at: "/")
        for mount in mounts {
            guard let source = mount.hostPath else { continue }
            // A mount that the guest has, and that is not to be had here, is missed by nobody but by who copies to it.
            guard let point = try? openBelow(top.raw, mount.mount.destination, O_PATH, resolve: 0x10 /* RESOLVE_IN_ROOT */),
                let tree = try? DetachedMount(of: source, recursive: !mount.isFile)
            else { continue }
            try? tree.attach(on: point.raw)  // as above
        }
        // The pid namespace's own processes, instead of an empty folder.
        if let point = try? openBelow(top.raw, "/proc", O_PATH | O_DIRECTORY, resolve: 0x10) {
            try? mountFilesystem(
                "proc", "/proc/self/fd/\(point.raw)", type: "proc", flags: UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC))  // as above
        }
    }
}
