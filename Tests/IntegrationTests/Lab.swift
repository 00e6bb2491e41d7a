import Foundation
import Testing

/// Everything here runs the real program in real machines: one root, one network namespace, one test at a time (the machine
/// may have two processors, and every container is a machine).
@Suite(.serialized, .lab) struct IntegrationTests {}

/// Where the tests run: folders of their own, and a network namespace of their own in which every verb runs.
final class Lab: Sendable {
    static let shared = Lab()

    let folder: String
    let image: String
    let program: String
    private let namespace = Held<Program>()
    private let boxed = Held<String>()

    private init() {
        let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().path
        let variables = ProcessInfo.processInfo.environment
        program = variables["HULL_BIN"] ?? "\(here)/bin/hull"
        image = "oci-archive:\(variables["HULL_IMAGES"] ?? "\(here)/.build/images")/busybox.tar"
        folder = "/tmp/hull-tests-\(getpid())"
    }

    var root: String { "\(folder)/root" }
    var execRoot: String { "\(folder)/exec" }

    /// The arguments that run `words` inside the tests' network namespace.
    func inside(_ words: [String]) throws -> [String] {
        let holder = try #require(namespace.value, "the tests' network namespace is not there")
        return ["nsenter", "--net=/proc/\(holder.pid)/ns/net", "--"] + words
    }

    /// The whole command line of a verb.
    func line(_ words: [String]) throws -> [String] {
        try inside([program, "--root", root, "--exec-root", execRoot] + words)
    }

    /// Starts a verb.
    func start(
        _ words: String..., environment: [String: String] = [:], input: [UInt8] = [], open: Bool = false,
        terminal: Pseudoterminal? = nil
    ) throws -> Program {
        try Program(try line(words), environment: environment, input: input, open: open, terminal: terminal)
    }

    /// Runs a verb to its end.
    @discardableResult
    func hull(
        _ words: [String], environment: [String: String] = [:], input: [UInt8] = [], seconds: Int = 60
    ) throws -> Program.Output {
        try Program(try line(words), environment: environment, input: input).finish(seconds: seconds)
    }

    @discardableResult
    func hull(_ words: String..., environment: [String: String] = [:], input: [UInt8] = [], seconds: Int = 60) throws
        -> Program.Output
    {
        try hull(words, environment: environment, input: input, seconds: seconds)
    }

    /// Runs a verb that must succeed; its output.
    @discardableResult
    func good(_ words: String..., input: [UInt8] = [], seconds: Int = 60, _ place: SourceLocation = #_sourceLocation) throws
        -> Program.Output
    {
        let output = try hull(words, input: input, seconds: seconds)
        try #require(output.code == 0, "hull \(words.joined(separator: " ")): \(output.errors)", sourceLocation: place)
        return output
    }

    /// `hull run --rm --network none FLAGS IMAGE sh -c SCRIPT`.
    func script(_ flags: [String], _ script: String, seconds: Int = 60) throws -> Program.Output {
        try hull(["run", "--rm", "--network", "none"] + flags + [image, "sh", "-c", script], seconds: seconds)
    }

    /// A program of the host in the tests' network namespace, to its end.
    @discardableResult
    func host(_ words: String..., seconds: Int = 30) throws -> Program.Output {
        try Program(try inside(words)).finish(seconds: seconds)
    }

    /// A container that stays, for checks that need no container of their own; its name.
    func box() throws -> String {
        if let name = boxed.value { return name }
        try good("run", "-d", "--name", "box", "--network", "none", image, "sleep", "infinity")
        boxed.value = "box"
        return "box"
    }

    /// What `hull inspect` says of one container.
    func inspect(_ name: String) throws -> [String: Any] {
        let output = try good("inspect", name)
        let all = try JSONSerialization.jsonObject(with: Data(output.bytes)) as? [[String: Any]]
        return try #require(all?.first)
    }

    func state(_ name: String) throws -> [String: Any] { try #require(inspect(name)["State"] as? [String: Any]) }

    /// A folder for a test's files.
    func scratch(_ name: String) throws -> String {
        let path = "\(folder)/\(name)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    func write(_ text: String, to path: String) throws { try text.write(toFile: path, atomically: false, encoding: .utf8) }
    func read(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

    /// Makes `Tests/Programs/NAME.c`, with no library that a container would need, at `path`.
    func compile(_ name: String, to path: String) throws {
        let source =
            URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Programs/\(name).c"
        let compiler = ProcessInfo.processInfo.environment["CC"] ?? "clang"
        let made = try Program([compiler, "-O1", "-static", "-o", path, source]).finish()
        try #require(made.code == 0, "\(made.errors)")
    }

    // MARK: the suite's set-up and its end

    func setUp() throws {
        try #require(geteuid() == 0, "these tests need root")
        try #require(
            FileManager.default.isExecutableFile(atPath: program), "\(program) is missing: run make build, or set HULL_BIN")
        let archive = String(image.dropFirst("oci-archive:".count))
        try #require(
            FileManager.default.fileExists(atPath: archive),
            "\(archive) is missing: run scripts/make-image.sh busybox, or set HULL_IMAGES")
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let holder = try Program(
            ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo ready && exec cat"], open: true)
        try holder.expect("ready")
        namespace.value = holder
        // Kernels of our own making, which these tests are to run with (make test-kernel).
        if let kernels = ProcessInfo.processInfo.environment["HULL_TEST_KERNELS"] {
            try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(atPath: "\(root)/kernels", withDestinationPath: kernels)
        }
        try good("pull", "-q", image)
    }

    /// Ends what stays on purpose, and looks for what should not be there.
    func tearDown() throws {
        let left = try hull("ps", "-aq").lines
        if !left.isEmpty { _ = try hull(["rm", "-f", "-v"] + left, seconds: 120) }
        #expect(try hull("ps", "-aq").text == "", "containers are left")
        // What starts leave behind on purpose, and for a while: the maker of templates, which gives way to everything else on the host.
        try eventually("the end of the maker of templates", within: 300) {
            try !remains().contains { $0.contains("hull-template-builder") }
        }
        // And the keepers of those that are awake.
        try good("template", "rm", "--all")
        // A monitor has told how it ended and let go of everything a moment before it is no process any more.
        var found: [String] = []
        try eventually("nothing is left on the host: \(found)", within: 10, every: 0.01) {
            found = try remains()
            return found.isEmpty
        }
        namespace.value = nil
        try FileManager.default.removeItem(atPath: folder)
    }

    /// What of this root is still there: processes, mounts, files of running sandboxes, cgroups.
    func remains() throws -> [String] {
        var found: [String] = []
        for pid in try FileManager.default.contentsOfDirectory(atPath: "/proc") where Int(pid) != nil {
            // A process may end while we look.
            guard let environment = try? Data(contentsOf: URL(fileURLWithPath: "/proc/\(pid)/environ")),
                let words = try? Data(contentsOf: URL(fileURLWithPath: "/proc/\(pid)/cmdline"))
            else { continue }
            let all = String(decoding: environment + words, as: UTF8.self)
            if all.contains(execRoot) || all.contains(root), !all.contains("\0--root\0") {
                found.append("process \(pid): \(all)")
            }
        }
        found += try read("/proc/self/mountinfo").split(separator: "\n").filter { $0.contains(folder) }.map { "mount \($0)" }
        let files = FileManager.default.enumerator(atPath: execRoot)?.allObjects.compactMap { $0 as? String } ?? []
        found += files.filter { !["ids", "ids/lock"].contains($0) && !$0.hasPrefix("network") }.map {
            "file \($0)"
        }
        return found
    }

    /// The cgroups of Hull's containers whose id is `id`.
    func cgroups(_ id: String) throws -> [String] {
        try Program(["find", "/sys/fs/cgroup", "-type", "d", "-name", id]).finish().lines
    }
}

/// A value that tests, which run one at a time, share.
final class Held<Value>: @unchecked Sendable {
    private let lock = NSLock()
    private var stored: Value?
    var value: Value? {
        get { lock.withLock { stored } }
        set { lock.withLock { stored = newValue } }
    }
}

/// Makes the lab before the suite and takes it back after.
struct LabTrait: SuiteTrait, TestScoping {
    @concurrent func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable @concurrent () async throws -> Void
    ) async throws {
        do {
            try Lab.shared.setUp()
            try await function()
        } catch {
            try Lab.shared.tearDown()
            throw error
        }
        try Lab.shared.tearDown()
    }
}

extension Trait where Self == LabTrait {
    static var lab: Self { Self() }
}
