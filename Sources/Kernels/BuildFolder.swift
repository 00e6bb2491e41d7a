import Glibc
import LinuxSystem

/// A folder whose entries are built here: each comes and goes in one step, by a rename, and one build is at work at a time.
struct BuildFolder: Sendable {
    let path: String
    /// The command that builds an entry, for messages.
    let command: String

    func entry(_ name: String) -> String { "\(path)/\(name)" }
    /// Where a build works. It goes with it, and with the next verb when it was killed.
    var staging: String { "\(path)/.building" }
    private var removed: String { "\(path)/.removed" }

    /// Held while one is at work; nil where somebody else has it.
    func attemptLock() throws -> FileLock? { try FileLock.attempt("\(path)/.lock") }

    private func lock() throws -> FileLock {
        guard let lock = try attemptLock() else {
            throw KernelError("another \(command) is at work: wait until it is done")
        }
        return lock
    }

    /// Has `work` build in `staging`, which is there and empty, and gives its room back.
    @Loop
    func build<Result>(_ work: () async throws -> Result) async throws -> Result {
        try makeDirectories(path, mode: 0o755)
        let lock = try lock()
        defer { withExtendedLifetime(lock) {} }
        try removeTree(staging)
        try makeDirectories(staging, mode: 0o755)
        do {
            let result = try await work()
            try removeTree(staging)
            return result
        } catch {
            // What cannot be removed now goes with the next verb.
            try? removeTree(staging)
            throw error
        }
    }

    /// Makes the folder `result`, whose files named in `files` reach the disk first, the entry `name`; one of that name goes. Only while `build` works.
    func add(_ result: String, as name: String, syncing files: [String]) throws {
        // Else a power cut could leave a name with empty files.
        for file in files {
            let written = try openFile("\(result)/\(file)", O_RDONLY)
            try checked("sync", file) { fsync(written.raw) }
        }
        let place = entry(name)
        if exists(place) { try takeAway(place) }
        try checked("rename", place) { rename(result, place) }
        try removeTree(removed)
    }

    /// Removes the entry `name`, after `first` was done.
    func remove(_ name: String, first: () throws -> Void = {}) throws {
        let lock = try lock()
        defer { withExtendedLifetime(lock) {} }
        try first()
        try takeAway(entry(name))
        try removeTree(removed)
    }

    private func takeAway(_ place: String) throws {
        try removeTree(removed)
        try checked("rename", place) { rename(place, removed) }
    }

    /// Takes back what a killed build or removal left. Does nothing while one is at work.
    func collectLeftovers() throws {
        guard exists(staging) || exists(removed), let lock = try attemptLock() else { return }
        defer { withExtendedLifetime(lock) {} }
        try removeTree(staging)
        try removeTree(removed)
    }
}
