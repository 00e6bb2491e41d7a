import Glibc
import LinuxSystem

/// The templates that are awake (docs/adr/031): of each, below `<root>/cache/awake`, a folder that its keeper has made and removes, to which
/// `KEY` is a link as long as it is of use; and a wish `KEY.wanted` as long as nobody has begun to fulfil it.
public struct AwakeTemplates: Sendable {
    let path: String

    init(_ path: String) { self.path = path }

    /// How long one stays awake after its last use: HULL_TEMPLATE_AWAKE seconds, or a minute; zero for not at all.
    static var idle: Duration {
        .seconds(getenv("HULL_TEMPLATE_AWAKE").flatMap { Int(String(cString: $0)) }.map { max(0, $0) } ?? 60)
    }

    /// The files of one.
    struct Files {
        let folder: String
        /// Held by its keeper.
        var lock: String { "\(folder)/lock" }
        /// The driver's.
        var place: String { "\(folder)/place" }
        var machine: String { "\(folder)/machine" }
        /// There from when copies can be made, and touched with each.
        var ready: String { "\(folder)/ready" }
        func disk(_ name: String) -> String { "\(folder)/disk-\(name)" }
        /// Its keeper's, whoever had it woken.
        var cgroup: Cgroup { Cgroup("hull/keeper-\(folder.split(separator: "/").last!.dropFirst())") }
    }

    func files(_ key: String) -> Files { Files(folder: "\(path)/\(key)") }

    /// One of which copies can be made.
    func find(_ key: String) -> Files? {
        // All of it is of one keeper, whoever comes after it.
        guard let found = readLink(files(key).folder).map({ Files(folder: $0) }) else { return nil }
        return exists(found.ready) ? found : nil
    }

    /// Tells its keeper that it was of use.
    func used(_ files: Files) { utimes(files.ready, nil) }

    /// Whether copies can be made of the template `key`.
    public func isAwake(_ key: String) -> Bool { exists(files(key).ready) && isKept(key) }

    /// Whether somebody keeps it, or is about to.
    func isKept(_ key: String) -> Bool { FileLock.isHeld(files(key).lock) }

    private func refusal(_ key: String) -> String { "\(path)/\(key).refused" }

    /// Notes that it could not be kept awake, and why.
    func refuse(_ key: String, _ reason: String) throws { try replaceFile(refusal(key), Array(reason.utf8)) }

    /// Whether that was a short while ago.
    func isRefused(_ key: String) -> Bool {
        var status = stat()
        return stat(refusal(key), &status) == 0 && time(nil) - status.st_mtim.tv_sec < 600
    }

    /// Notes that a template should be woken, with what is needed to.
    func want(_ key: String, _ recipe: [UInt8]) throws {
        try makeDirectories(path)
        try replaceFile("\(path)/\(key).wanted", recipe)
    }

    /// Has one woken, as `start` starts keepers, and waits until it is awake, or will not be: who wakes it later is none the worse.
    @Loop public func wake(_ key: String, _ recipe: [UInt8], start: @Loop () throws -> Void) async throws {
        let end = ContinuousClock.now + .seconds(60)
        var lastSign: ContinuousClock.Instant?
        var tries = 0
        while !isAwake(key), ContinuousClock.now < end {
            if isKept(key) || exists("\(path)/\(key).wanted") {
                lastSign = .now
            } else if lastSign.map({ $0 + .seconds(1) < .now }) ?? true {
                // The second try is for one that somebody still kept, whose template was another.
                if tries == 2 || isRefused(key) { return }
                tries += 1
                try want(key, recipe)
                try start()
                lastSign = .now
            }
            try await sleep(for: .milliseconds(10))
        }
    }

    /// The keys of those that should be woken.
    public func wanted() throws -> [String] {
        guard exists(path) else { return [] }
        return try listDirectory(path).filter { $0.hasSuffix(".wanted") }.map { String($0.dropLast(7)) }
    }

    /// Nobody wants it woken any more.
    public func forget(_ key: String) {
        unlink("\(path)/\(key).wanted")
        unlink(refusal(key))
    }

    /// Takes a wish, and what it brought; nil where somebody else has.
    func take(_ key: String) -> [UInt8]? {
        let wish = "\(path)/\(key).wanted"
        let recipe = try? readFile(wish, limit: 1 << 20)  // gone
        return unlink(wish) == 0 ? recipe : nil
    }

    /// Begins to keep one awake: the folder, new and locked. Nil while somebody else keeps it.
    func begin(_ key: String) throws -> (files: Files, lock: FileLock)? {
        let guarding = try FileLock.acquire("\(path)/.lock")
        defer { withExtendedLifetime(guarding) {} }
        // What cannot be removed the next verb says.
        for name in try leftovers() { try? remove(name) }
        let link = files(key)
        if exists(link.folder) { return nil }
        let files = Files(folder: "\(path)/.\(key)-\(ContainerStore.newIdentifier().prefix(12))")
        for folder in [files.folder, files.place, files.machine] { try makeDirectories(folder) }
        guard let lock = try FileLock.attempt(files.lock) else { return nil }
        try checked("name", files.folder) { symlink(files.folder, link.folder) }
        return (files, lock)
    }

    /// Takes one out of everybody's way, in one step: who finds none may want one, while its machine still ends. Its keeper ends when it has not
    /// been used for a while. One that came after it stays.
    func setAside(_ key: String, _ files: Files) throws {
        let guarding = try FileLock.acquire("\(path)/.lock")
        if readLink(self.files(key).folder) == files.folder { unlink(self.files(key).folder) }
        withExtendedLifetime(guarding) {}
    }

    /// Removes what its keeper, this process, had made, whose machine has ended. What cannot be removed now the next verb takes back.
    func end(_ key: String, _ files: Files) {
        // Where the folder is gone already, there is nobody to be in the way of.
        try? setAside(key, files)
        do {
            try files.cgroup.leave()
            try remove(files)
        } catch { StandardStreams.complain("hull: the template \(key) sleeps again, and something is left: \(error)") }
    }

    private func remove(_ files: Files) throws {
        try files.cgroup.remove(withParent: true, patience: 20)
        try removeTree(files.folder)
    }

    /// Takes back what killed keepers left.
    public func collectLeftovers() throws {
        guard exists(path), try !leftovers().isEmpty else { return }
        let guarding = try FileLock.acquire("\(path)/.lock")
        defer { withExtendedLifetime(guarding) {} }
        var failure: (any Error)?
        for name in try leftovers() {
            do { try remove(name) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// What nobody holds. A wish is no leftover.
    private func leftovers() throws -> [String] {
        try listDirectory(path).filter {
            // Wishes and refusals, and those that are being written.
            $0 != ".lock" && !$0.contains(".wanted") && !$0.contains(".refused") && !FileLock.isHeld("\(path)/\($0)/lock")
        }
    }

    private func remove(_ name: String) throws {
        if name.hasPrefix(".") { try remove(Files(folder: "\(path)/\(name)")) } else { unlink("\(path)/\(name)") }
    }
}
