import CLinux
import Glibc
package import LinuxSystem
package import Machines

/// Where virtiofsd is, and how this one wants to be called.
package struct ShareServerProgram: Sendable, Hashable {
    /// The words that start it: the program, or a loader of its own, its library path and the program.
    package var command: [String]
    /// The folders that it must see at its start; empty when it needs the host's own programs and libraries.
    package var folders: [String]
    /// QEMU 7.2's C program, which has other options than the Rust one.
    package var isLegacy: Bool

    /// The newest on this host; nil when there is none. HULL_VIRTIOFSD names another, which is QEMU 7.2's own if its folder is `qemu`.
    package static func find() -> ShareServerProgram? {
        if let named = getenv("HULL_VIRTIOFSD").map({ String(cString: $0) }), !named.isEmpty {
            guard access(named, X_OK) == 0 else { return nil }
            return ShareServerProgram(command: [named], folders: [], isLegacy: named.hasSuffix("/qemu/virtiofsd"))
        }
        for folder in ["/usr/local/lib/hull/virtiofsd", "/usr/lib/hull/virtiofsd"] {
            // A folder with its own loader and libraries, as the set-up script leaves it; no such file, no such folder.
            if let text = try? readText("\(folder)/command") {
                let command = text.split(separator: "\n").map(String.init)
                if let program = command.first, access(program, X_OK) == 0 {
                    return ShareServerProgram(command: command, folders: [folder], isLegacy: false)
                }
            }
        }
        for path in ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/bin/virtiofsd"] where access(path, X_OK) == 0 {
            return ShareServerProgram(command: [path], folders: [], isLegacy: false)
        }
        let legacy = "/usr/lib/qemu/virtiofsd"
        return access(legacy, X_OK) == 0 ? ShareServerProgram(command: [legacy], folders: [], isLegacy: true) : nil
    }

    package static let missing = MachineError(
        .missing,
        "no virtiofsd was found, which bind mounts and volumes need: install the package virtiofsd (Debian 13), or run Hull's set-up script"
    )

    /// The words after the program, with the listening socket as descriptor `socket` and the share at `/share`.
    package func arguments(socket: Int32, isVolatile: Bool, isRestored: Bool = false) -> [String] {
        let own =
            isLegacy
            ? [
                "--fd=\(socket)", "-o",
                "source=/share,sandbox=chroot,xattr,allow_direct_io,cache=\(isVolatile ? "none" : "auto"),announce_submounts",
                "--rlimit-nofile=0", "-f",
            ]
            : [
                "--fd=\(socket)", "--shared-dir", "/share", "--sandbox", "none", "--xattr", "--allow-direct-io",
                "--rlimit-nofile=0",
                "--announce-submounts", "--log-level", "warn",
            ] + (isVolatile ? ["--cache", "never", "--allow-mmap"] : [])
                // A file that the saved guest knew and that is gone is an error for whoever uses it, and for nobody else.
                + (isRestored ? ["--migration-on-error", "guest-error"] : [])
        return Array(command.dropFirst()) + own
    }
}

/// The server of a sandbox's one share: a virtiofsd in a user namespace of the sandbox's own ids, whose root holds the
/// entries and nothing else. The mounts of the entries map ids, so that files keep the owners the guest gives them, and
/// refuse writes to what is read-only whatever the server does.
@Loop
package final class ShareServer: Sharing {
    package nonisolated let folder = "more"
    private let owners: Owners
    package let process: ConfinedProcess
    /// QEMU's end of the vhost-user connection, until QEMU has it.
    package private(set) var connection: SharedDescriptor!
    private let root: ConfinedRoot

    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, MKNOD, SETFCAP: in its own user namespace, where they reach only
    // files whose owners its mounts map. SETPCAP it needs to give itself fewer, and gives up. The legacy server also enters its root by itself: SYS_CHROOT.
    private static let capabilities: UInt64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 27 | 1 << 31

    package init(
        _ share: Share, _ program: ShareServerProgram, isRestored: Bool, confinement: Confinement, in directory: MachineDirectory
    ) throws {
        let path = "\(directory.path)/share-root"
        var owners = try share.needsHostOwners || confinement.isRootless ? Owners.host() : Owners.sandbox(confinement.uidBase)
        let label = confinement.labels?.files
        let root: ConfinedRoot
        do { root = try Self.makeRoot(path, label, share, owners) } catch is UnmappableOwners {
            // One server has one set of ids: with a filesystem that maps none it works with the host's, in all that is shown.
            owners = try Owners.host()
            root = try Self.makeRoot(path, label, share, owners)
        }
        self.root = root
        do {
            if share.grows { try root.mountRoom(at: "/share/more", owner: owners.base) }
            self.owners = owners
            if program.folders.isEmpty {
                try root.bindPrograms()
                let place = program.command[0]
                if !place.hasPrefix("/usr/") { try root.bind(place, at: place) }
            } else {
                for folder in program.folders { try root.bind(folder, at: folder) }
            }
            try root.mountOwnProcesses()

            // virtiofsd takes a listening socket only: it gets one whose one connection is made already and whose path is gone.
            let path = "\(directory.path)/share.sock"
            let listener = try UnixSocket.listen(path, backlog: 1)
            connection = try UnixSocket.connect(path)
            unlink(path)
            try setNonBlocking(listener.raw, false)

            var how = Spawn(
                program.command[0], program.arguments(socket: 3, isVolatile: share.isVolatile, isRestored: isRestored),
                environment: [])
            how.userNamespace = owners.namespace
            how.identity = (0, 0, [])
            how.keepsGroups = confinement.isRootless
            how.capabilities = Self.capabilities | (program.isLegacy ? 1 << 18 : 0)
            // It holds a descriptor for every file the guest knows.
            how.limits.append(Self.fileLimit())
            process = try ConfinedProcess(
                role: "virtiofsd", how, root: root, confinement: confinement, descriptors: [listener])
            withExtendedLifetime(owners.namespace) {}
        } catch {
            // The failure that counts is the one above; the mounts go with the monitor's namespace in any case.
            try? root.remove()
            throw error
        }
    }

    /// Whose ids the server has on the host.
    private struct Owners {
        /// The server's user namespace.
        var namespace: SharedDescriptor
        /// Its first id on the host.
        var base: UInt32
        /// Whether mounts map owners to the namespace's.
        var areMapped: Bool

        static func sandbox(_ base: UInt32) throws -> Owners {
            Owners(namespace: try makeUserNamespace(base: base, count: 65536), base: base, areMapped: true)
        }

        /// The host's own (or, rootless, those of the user's namespace), but still without any capability outside its namespace (docs/adr/013-binds-of-any-filesystem.md).
        static func host() throws -> Owners {
            Owners(namespace: try makeEqualUserNamespace(), base: 0, areMapped: false)
        }
    }

    /// A filesystem whose mounts map no owners.
    private struct UnmappableOwners: Error {}

    private static func makeRoot(_ path: String, _ label: String?, _ share: Share, _ owners: Owners) throws -> ConfinedRoot {
        let root = try ConfinedRoot(at: path, label: label)
        do {
            try root.makeFolder("/share", owner: owners.base)
            for entry in share.entries { try bind(entry, in: root, owners) }
            return root
        } catch {
            // As above.
            try? root.remove()
            throw error
        }
    }

    private static func bind(_ entry: ShareEntry, in root: ConfinedRoot, _ owners: Owners) throws {
        guard !entry.name.isEmpty, !entry.name.contains("/"), entry.name != ".", entry.name != "..", entry.name.utf8.count <= 255
        else {
            throw MachineError(.unsupported, "a share's entry cannot be named '\(entry.name)'")
        }
        let inside = "/share/\(entry.name)"
        // What is the kernel's is the host's own affair: read-only, and without its owners a stranger's view.
        func namespace(_ isKernels: Bool) -> SharedDescriptor? { owners.areMapped && !isKernels ? owners.namespace : nil }
        do {
            try root.bind(
                entry.hostPath, at: inside, readOnly: entry.readOnly || entry.isKernels, owners: namespace(entry.isKernels),
                keep: true,
                followsHost: entry.followsHost)
            for mount in entry.submounts {
                try root.bindBelow(
                    entry.hostPath, mount.path, at: inside, readOnly: entry.readOnly || mount.isKernels,
                    owners: namespace(mount.isKernels))
            }
        } catch let error as SystemError where error.code == EINVAL || error.code == EPERM {
            if owners.areMapped { throw UnmappableOwners() }
            throw MachineError(
                .unsupported,
                "\(entry.hostPath) cannot be shown in a machine: the host's kernel does not let it, or something below it, be mounted a second time",
                cause: error)
        }
    }

    // As many as may be had: 2^20 with CAP_SYS_RESOURCE, else the hard limit.
    private static func fileLimit() -> (resource: Int32, soft: UInt64, hard: UInt64) {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        var raised = rlimit(rlim_cur: limit.rlim_cur, rlim_max: 1 << 20)
        // Raising our own hard limit tells whether the child may.
        if limit.rlim_max < 1 << 20, setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) != 0 {
            raised.rlim_max = limit.rlim_max
        }
        let most = max(UInt64(limit.rlim_max), UInt64(raised.rlim_max))
        return (Int32(RLIMIT_NOFILE.rawValue), most, most)
    }

    package func show(_ entries: [(entry: ShareEntry, tree: SharedDescriptor)]) async throws {
        for (entry, copy) in entries {
            let tree = try DetachedMount(copy)
            try tree.set(
                readOnly: entry.readOnly, noSuid: true, noDevices: true, owners: owners.areMapped ? owners.namespace : nil)
            try tree.attach(at: "/share/\(folder)/\(entry.name)", inside: process.child, isFile: entry.isFile)
        }
    }

    package func hide(_ names: [String]) throws {
        try unmountInside(process.child, names.map { "/share/\(folder)/\($0)" })
    }

    /// Gives up our view of what the server sees. Call it once the server has been spawned.
    package func release() throws { try root.releaseBound() }

    /// Takes away all but the entries. Call it once the server serves.
    package func emptyRoot() throws { try root.empty() }

    /// Brings a new server to where the one was that a machine's QEMU spoke to before, a copy of which has the connection now and has said
    /// nothing yet. Call it in the place of `connectionGiven`.
    package func takeOver() async throws {
        try setNonBlocking(connection.raw)
        try await withDeadline(.seconds(30), awaiting: "the share server's answer") { [connection] in
            try await ShareServerLink(connection!).takeOver()
        }
        connectionGiven()
    }

    /// QEMU has its end: ours is closed, so that the server sees QEMU's death.
    package func connectionGiven() { connection = nil }

    /// Ends the server; whoever waits for it reaps it.
    package func kill() { process.child.signal(SIGKILL) }

    /// Ends a server that no machine came to use, and takes down what it had.
    package func abandon() {
        kill()
        let child = process.child
        // It was killed: nothing but its being reaped is awaited.
        Task { @Loop in _ = try? await child.wait() }
        // Why the machine did not start counts; what could not be taken down goes with the monitor's namespace.
        try? root.remove()
    }

    /// Gives up the root. The server has ended.
    package func remove() throws { try root.remove() }
}
