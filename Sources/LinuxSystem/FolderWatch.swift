import CLinux
import Glibc

/// Tells when something in a folder changed (inotify(7)).
public struct FolderWatch: Sendable {
    private let descriptor: SharedDescriptor

    /// Watches the files directly in `folder`: written, made, renamed into place, removed.
    public init(_ folder: String) throws(SystemError) {
        descriptor = SharedDescriptor(
            owning: try checked("watch", folder) { inotify_init1(O_CLOEXEC | O_NONBLOCK) })
        let events = UInt32(
            IN_MODIFY | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)
        try checked("watch", folder) { inotify_add_watch(descriptor.raw, folder, events) }
    }

    /// Waits for a change, or until the time is over.
    @Loop
    public func next(atMost duration: Duration) async throws {
        let raw = descriptor.raw
        do {
            try await withDeadline(duration, awaiting: "a change") {
                _ = try await readSome(raw, capacity: 4096)
            }
        } catch is DeadlineError {}
    }
}
