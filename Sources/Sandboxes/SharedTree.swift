import Glibc
public import LinuxSystem
public import Machines

/// What of a folder of the host is shown in a machine: the folder, and what is mounted below it (Docker's rbind). The
/// kernel's own filesystems tell of the host and are not files: below a folder, all but /sys and /dev are left out; one that was
/// asked for by its name is shown. Pure.
public struct SharedTree: Sendable {
    /// The folder, without links.
    public let path: String
    /// Whether the folder itself is of the kernel.
    let isKernels: Bool
    /// Whether it is a tmpfs's top.
    let isMemory: Bool
    /// What is shown below it, parents first.
    let submounts: [Submount]
    /// What is not shown, by its path on the host.
    public let leftOut: [String]

    // Of most of these the files say that they are empty, and a guest would believe it; some begin work when they are looked at.
    private static let kernels: Set<String> = [
        "proc", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs", "bpf", "pstore", "efivarfs", "hugetlbfs",
        "fusectl", "binfmt_misc", "autofs", "rpc_pipefs", "nsfs", "nfsd", "selinuxfs", "smackfs", "devpts", "mqueue", "resctrl",
    ]
    private static let shownKernels: Set<String> = ["sysfs", "devtmpfs"]

    /// - Parameter own: a folder in which what is mounted is Hull's own and nobody's business.
    init(_ path: String, in table: MountTable, own: String = "") {
        self.path = path
        let mount = table.holding(path)
        let type = mount?.type ?? ""
        isKernels = Self.kernels.contains(type) || Self.shownKernels.contains(type)
        isMemory = type == "tmpfs" && mount?.path == path
        var shown: [Submount] = []
        var leftOut: [String] = []
        for mount in table.below(path) {
            // What is on something that is not shown has no place.
            if leftOut.contains(where: { mount.path.hasPrefix($0 + "/") }) { continue }
            if !own.isEmpty, mount.path.hasPrefix(own + "/") { continue }
            // A namespace's handle is nothing to look into.
            if mount.type == "nsfs" { continue }
            if Self.kernels.contains(mount.type) {
                leftOut.append(mount.path)
            } else {
                let relative = mount.path.dropFirst(path == "/" ? 1 : path.utf8.count + 1)
                shown.append(Submount(path: String(relative), isKernels: Self.shownKernels.contains(mount.type)))
            }
        }
        submounts = shown
        self.leftOut = leftOut
    }

    /// A folder or file as the host has it now; nil where it is not there. Who has just read the host's mounts gives them as `table`.
    public init?(of source: String, in table: MountTable? = nil, own: String = "") throws {
        guard let resolved = realpath(source, nil) else { return nil }
        defer { free(resolved) }
        self.init(String(cString: resolved), in: try table ?? MountTable.current(), own: own)
    }

    /// One sentence about all that `record`'s binds leave out; nil when that is nothing.
    public static func warning(for record: ContainerRecord) throws -> String? {
        var all: [String] = []
        for mount in record.mounts {
            guard case .bind(let source) = mount.source, let tree = try SharedTree(of: source) else { continue }
            all += tree.leftOut.filter { !all.contains($0) }
        }
        guard !all.isEmpty else { return nil }
        return
            "warning: not shown in the container, because only the host's kernel can serve \(all.count == 1 ? "it" : "them"): \(all.joined(separator: ", "))"
    }
}

extension ResolvedMount {
    /// Follows links to what is shown, and finds what is mounted below it. `own` is where the share server's root is made, which may lie
    /// in the folder itself.
    mutating func follow(in table: MountTable? = nil, own: String) throws {
        guard let path = hostPath, let tree = try SharedTree(of: path, in: table, own: own) else { return }
        hostPath = tree.path
        isKernels = tree.isKernels
        isMemory = tree.isMemory
        submounts = isFile ? [] : tree.submounts
    }
}
