import CLinux
import Glibc
import LinuxSystem

/// Whoever owns, or takes back, a sandbox holds the lock in its runtime folder. The folder goes in one step (`removeRuntime`), so a
/// lock's file never changes within a folder: who has locked the file that others find, has the sandbox.
extension ContainerPaths {
    /// The lock, or nil when somebody else has it. A folder that is missing is made where `making` says so; otherwise nobody's
    /// sandbox is to come back by being looked at, and the answer is nil too.
    func attemptLock(making: Bool) throws -> FileLock? {
        while true {
            if making { try makeDirectories(runtime) }
            switch try attempt() {
            case .taken(let lock): return lock
            case .held: return nil
            case .gone: if !making { return nil }
            }
        }
    }

    private enum Attempt {
        case taken(FileLock), held
        /// The folder went away before, or in between.
        case gone
    }

    private func attempt() throws(SystemError) -> Attempt {
        do {
            guard let held = try FileLock.attempt(lock) else { return .held }
            return finds(held) ? .taken(held) : .gone
        } catch {
            if error.code == ENOENT { return .gone }
            throw error
        }
    }

    /// Removes the runtime folder: out of sight first, whole, then file by file. Missing is no error.
    func removeRuntime() throws { try Self.removeWhole(runtime) }

    /// Removes a folder in one step, as others see it.
    static func removeWhole(_ folder: String) throws {
        let slash = folder.lastIndex(of: "/") ?? folder.startIndex
        // A number of its own: the folder may have come anew, and go again, before the first one is emptied.
        let aside =
            "\(folder[..<slash])/\(removing)\(folder[folder.index(after: slash)...])-\(UInt64.random(in: 0...(.max)))"
        guard rename(folder, aside) == 0 else {
            if errno == ENOENT { return }
            throw SystemError("remove", folder)
        }
        Fault.point("removed:sight")
        try removeTree(aside)
    }

    /// How a folder is named that is out of sight: anybody may empty it.
    static let removing = ".removing-"

    /// Whether the file that was locked is the one that others find.
    private func finds(_ held: FileLock) -> Bool {
        var ours = stat()
        var theirs = stat()
        return fstat(held.raw, &ours) == 0 && stat(lock, &theirs) == 0 && ours.st_ino == theirs.st_ino
            && ours.st_dev == theirs.st_dev
    }
}
