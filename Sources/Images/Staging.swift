import Glibc
import LinuxSystem

/// A folder of the store for work that is under way, locked as long as its owner lives. A killed owner's is removed by
/// whoever comes next.
final class Staging: Sendable {
    let path: String
    private let lock: FileLock

    private init(path: String, lock: FileLock) {
        self.path = path
        self.lock = lock
    }

    /// A new one below `folder`.
    static func make(in folder: String) throws -> Staging {
        while true {
            let path = "\(folder)/\(getpid())-\(String(UInt32.random(in: 0 ... .max), radix: 36))"
            let lock = try FileLock.acquire("\(path).lock")
            // Somebody who removes leftovers may have taken the file between its making and its locking.
            var status = stat()
            guard fstat(lock.raw, &status) == 0, status.st_nlink > 0 else { continue }
            try makeDirectories(path)
            return Staging(path: path, lock: lock)
        }
    }

    /// Removes it, whatever is in it.
    func discard() throws {
        try removeTree(path)
        unlink("\(path).lock")
    }

    /// Removes what killed owners left below `folder`.
    static func collect(in folder: String) throws {
        for name in try listDirectory(folder) {
            let path = "\(folder)/\(name)"
            if name.hasSuffix(".lock") {
                // Nil: somebody works there.
                guard let lock = try FileLock.attempt(path) else { continue }
                try removeTree(String(path.dropLast(5)))
                unlink(path)
                withExtendedLifetime(lock) {}
            } else if !exists("\(path).lock") {
                try removeTree(path)
            }
        }
    }
}

/// Waits for a lock that may be held for as long as a pull takes. flock(2) tells nobody when it is free, so it is tried again, rarely.
func waitForLock(_ path: String, time: Duration, awaiting: String) async throws -> FileLock {
    let end = ContinuousClock.now + time
    var pause = Duration.milliseconds(5)
    while true {
        if let lock = try FileLock.attempt(path) { return lock }
        if ContinuousClock.now >= end { throw ImageError(.failed, "\(awaiting) did not end within \(time)") }
        try await sleep(for: pause)
        pause = min(pause * 2, .milliseconds(100))
    }
}
