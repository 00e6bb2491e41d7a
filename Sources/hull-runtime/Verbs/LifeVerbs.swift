import FoundationEssentials
import Glibc
import LinuxSystem
import OCISpec
import Sandboxes

/// The verbs that move a container through its life, and the one that says where it is.
enum LifeVerbs {
    @Loop static func start(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let id = try Arguments(words).id("start")
        try await start(try globals.engines.require(id))
        Launch.makeWantedTemplates(globals.roots)
        return 0
    }

    /// Lets a created container run, then its poststart hooks.
    @Loop static func start(_ container: Container) async throws {
        switch container.engineStatus {
        case .created, .creating: break
        case .stopped: throw SandboxError("cannot start a container that has stopped", exitCode: 1)
        case .running, .paused: throw SandboxError("cannot start an already running container", exitCode: 1)
        }
        try await ask(container, .start)
        try await poststart(container)
    }

    /// Its poststart hooks.
    @Loop static func poststart(_ container: Container) async throws {
        guard let hooks = try hooks(of: container)?.poststart else { return }
        try await Hooks.run(hooks, container.runtimeState(.running))
    }

    /// Those that `create` or `delete` did not hold in memory; the file is only read where it has some.
    private static func hooks(of container: Container) throws -> RuntimeSpec.Hooks? {
        let bytes = try readFile(container.paths.bundle)
        guard bytes.firstRange(of: Array("\"poststart\"".utf8)) != nil || bytes.firstRange(of: Array("\"poststop\"".utf8)) != nil
        else { return nil }
        return try RuntimeSpec(parsing: bytes).hooks
    }

    /// Asks the container's monitor and waits for `done`.
    @Loop static func ask(_ container: Container, _ request: EngineRequest) async throws {
        let client: MonitorClient
        do { client = try MonitorClient(to: container) } catch { throw SandboxError("container not running", exitCode: 1) }
        try await client.ask(.engine(request))
        do { try await client.expectDone() } catch let error as SandboxError where error.exitCode == 137 {
            throw SandboxError("container not running", exitCode: 1)
        }
    }

    static func state(_ words: some Sequence<String>, _ globals: Globals) throws -> Int32 {
        let container = try globals.engines.require(try Arguments(words).id("state"))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .withoutEscapingSlashes]
        print(String(decoding: try encoder.encode(Listed(container)), as: UTF8.self))
        return 0
    }

    @Loop static func kill(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let arguments = try Arguments(words, plain: ["all"], short: ["a": "all"])
        let container = try globals.engines.require(try arguments.id("kill"))
        let name = arguments.words.count > 1 ? arguments.words[1] : "SIGTERM"
        guard let signal = Signals.number(name) else { throw SandboxError("unknown signal \"\(name)\"", exitCode: 1) }
        if container.engineStatus == .stopped {
            // As runc: what has ended has no process left, and `--all` is content with that.
            if arguments.has("all") { return 0 }
            throw SandboxError("container not running", exitCode: 1)
        }
        try await ask(container, .kill(signal, all: arguments.has("all")))
        return 0
    }

    @Loop static func delete(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let arguments = try Arguments(words, plain: ["force"], short: ["f": "force"])
        let id = try arguments.id("delete")
        let engines = globals.engines
        // What a save or a restore left that was killed.
        do { try globals.roots.snapshots.collectLeftovers() } catch { StandardStreams.complain("hull-runtime: \(error)") }
        guard let container = try engines.find(id) else {
            if arguments.has("force") { return 0 }
            throw SandboxError("container does not exist", exitCode: 1)
        }
        switch container.engineStatus {
        case .running, .paused, .creating:
            guard arguments.has("force") else {
                throw SandboxError(
                    "cannot delete container \(id) that is not stopped: \(container.engineStatus.rawValue)", exitCode: 1)
            }
        case .created, .stopped: break
        }
        let hooks = try hooks(of: container)?.poststop
        try await engines.remove(container)
        do { try await Hooks.run(hooks, container.runtimeState(.stopped, pid: 0)) } catch {
            StandardStreams.complain("\(error)")  // runtime.md: the error is logged, and the rest goes on
        }
        return 0
    }

    @Loop static func pause(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let container = try globals.engines.require(try Arguments(words).id("pause"))
        try await ask(container, .pause)
        return 0
    }

    @Loop static func resume(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let container = try globals.engines.require(try Arguments(words).id("resume"))
        try await ask(container, .resume)
        return 0
    }
}

/// A container as `state` and `list` show it: runtime.md's state and what runc adds.
struct Listed: Encodable {
    var ociVersion: String
    var id: String
    var pid: Int32
    var status: String
    var bundle: String
    var rootfs: String
    var created: String
    var annotations: [String: String]?
    var owner: String

    init(_ container: Container) {
        let state = container.runtimeState()
        ociVersion = state.ociVersion
        id = state.id
        pid = state.pid
        status = state.status
        bundle = state.bundle
        rootfs = container.record.engine?.rootfs ?? ""
        created = Timestamp(nanoseconds: container.record.created).rfc3339
        annotations = state.annotations?.isEmpty == false ? state.annotations : nil
        owner = ""
    }
}
