import CLinux
import Glibc
import LinuxSystem

/// What hooks may change, on the host, of what a machine is started from: which files and folders there are at the paths that it is shown, and what is
/// mounted on, above and below them.
struct HostView: Equatable, Sendable {
    private struct File: Equatable, Sendable {
        var device: UInt64
        var number: UInt64
    }

    private let files: [File?]
    private let mounts: Set<MountTable.Entry>

    /// As it is now, for those absolute paths, with the mounts of `table`. Mounts at `own` and below are the machine's.
    init(of paths: [String], in table: MountTable, own: String) {
        files = paths.map { path in
            var status = stat()
            return stat(path, &status) == 0 ? File(device: UInt64(status.st_dev), number: UInt64(status.st_ino)) : nil
        }
        mounts = Self.mounts(table, around: paths, own: own)
    }

    static func mounts(_ table: MountTable, around paths: [String], own: String) -> Set<MountTable.Entry> {
        func holds(_ folder: String, _ path: String) -> Bool { folder == "/" || path == folder || path.hasPrefix(folder + "/") }
        return Set(
            table.entries.filter { entry in
                !holds(own, entry.path) && paths.contains { holds(entry.path, $0) || holds($0, entry.path) }
            })
    }
}

/// A start beside the hooks.
struct EarlyStart: Sendable {
    /// Returns when they are done.
    let hooked: Task<Void, any Error>
    /// What was there when it began.
    let began: HostView
}

/// What a machine was started from early, beside the hooks, is not what they left: it is given up, and another one is started.
struct HooksChangedTheHost: Error {}
