import FoundationEssentials
import Glibc
import Images
import LinuxSystem
import OCISpec
import Testing

/// SIGKILL of a process that pulls, at random moments: nothing of it runs on, nothing half made is ever seen, and the next pull succeeds.
@Suite("A killed pull", .enabled(if: missing == nil, "\(missing ?? "")"), .serialized)
struct KillTests {
    private static let variable = "HULL_TEST_PULL"

    /// The process that is killed: this test program again, with only this test. Without the variable it has nothing to do.
    @Test("the pull itself, in a process of its own")
    func victim() async throws {
        guard let line = environment().first(where: { $0.hasPrefix("\(Self.variable)=") }) else { return }
        let parts = line.dropFirst(Self.variable.utf8.count + 1).split(separator: "|").map(String.init)
        Loop.runInBackground()
        let store = try ImageStore(root: parts[0], tools: ImageTools(environment: []))
        _ = try await store.resolve(try ImageSource(parts[1], relativeTo: "/"))
    }

    @Test("leaves no process, and no file after the next collection; the store stays whole")
    func killed() async throws {
        if environment().contains(where: { $0.hasPrefix("\(Self.variable)=") }) { return }
        let scratch = try Scratch()
        let image = try await sampleImage("victim", bytes: 3_000_000)
        try image.write(to: "\(scratch.path)/layout")
        let source = "oci:\(scratch.path)/layout"
        let store = try scratch.store()
        var random = SeededRandom(state: 20_261_121)
        var interrupted = 0
        for round in 0..<20 {
            let child = try await start("\(store.root)|\(source)")
            try await sleep(for: .milliseconds(Int.random(in: 10..<260, using: &random)))
            child.signal(SIGKILL)
            if try await child.wait() == .signal(SIGKILL) { interrupted += 1 }
            let deadline = ContinuousClock.now + .seconds(1)
            while try !processes(naming: scratch.path).isEmpty, ContinuousClock.now < deadline {
                try await sleep(for: .milliseconds(20))
            }
            #expect(try processes(naming: scratch.path) == [], "round \(round)")
            // A child that was killed before it executed anything held the locks a moment longer.
            repeat {
                try store.collectLeftovers()
            } while try !listDirectory("\(store.root)/ingest").isEmpty
                && ContinuousClock.now < deadline
            #expect(try listDirectory("\(store.root)/ingest") == [], "round \(round)")
            // Whatever has a name is whole.
            for image in try store.list() { try await command("/usr/bin/fsck.erofs", image.rootPath) }
            if round % 2 == 0 {
                for image in try store.list() { _ = try store.remove(image.id.hex, users: { _ in [] }) }
                try store.collectGarbage()
                try expectEmpty(store)
            }
        }
        print("pulls interrupted: \(interrupted) of 20")
        #expect(interrupted > 3)
        let found = try await store.resolve(try ImageSource(source, relativeTo: "/"))
        try await command("/usr/bin/fsck.erofs", found.rootPath)
    }

    @Loop
    private func start(_ what: String) throws -> ChildProcess {
        var how = Spawn(
            "/proc/self/exe", ["--testing-library", "swift-testing", "--filter", "KillTests/victim"],
            environment: environment() + ["\(Self.variable)=\(what)"])
        let nothing = SharedDescriptor(try openFile("/dev/null", O_RDWR))
        how.descriptors = [(nothing.raw, 0), (nothing.raw, 1), (nothing.raw, 2)]
        how.deathSignal = SIGKILL
        // /proc/self is the child's own, which is a copy of this one until it executes.
        return try how.spawn()
    }

    /// Programs (not this one) whose command line or working directory names `path`.
    private func processes(naming path: String) throws -> [String] {
        var found: [String] = []
        for name in try listDirectory("/proc") {
            guard let pid = Int32(name), pid != getpid() else { continue }
            // Gone between the listing and the look: not there.
            guard let bytes = try? readFile("/proc/\(pid)/cmdline") else { continue }
            var folder = [UInt8](repeating: 0, count: 4096)
            let length = folder.withUnsafeMutableBytes { readlink("/proc/\(pid)/cwd", $0.baseAddress!, $0.count) }
            let text = String(decoding: bytes + folder[..<max(0, length)], as: UTF8.self)
            if text.contains(path) { found.append(text) }
        }
        return found
    }
}
