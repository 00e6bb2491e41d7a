import Glibc
import LinuxSystem
import OCISpec
import Sandboxes

/// `create`, and `run`, which goes on with `start` and waits.
enum CreateVerb {
    @Loop static func perform(_ words: some Sequence<String>, _ globals: Globals, isRun: Bool) async throws -> Int32 {
        let arguments = try Arguments(
            words, valued: ["bundle", "console-socket", "pid-file", "preserve-fds"],
            plain: ["no-pivot", "no-new-keyring", "detach", "keep", "no-subreaper"], short: ["b": "bundle", "d": "detach"])
        let id = try arguments.id(isRun ? "run" : "create")
        do {
            return try await perform(arguments, id, globals, isRun)
        } catch let error as any HullError {
            throw SandboxError("hull-runtime \(isRun ? "run" : "create") failed: \(error)", exitCode: 1)
        }
    }

    @Loop private static func perform(_ arguments: Arguments, _ id: String, _ globals: Globals, _ isRun: Bool) async throws
        -> Int32
    {
        let (container, process) = try await make(arguments, id, globals, checkpoint: nil)
        guard isRun else { return 0 }
        let engines = globals.engines
        do { try await LifeVerbs.start(container) } catch {
            try await engines.remove(container)
            throw error
        }
        // Not beside a command that somebody waits for.
        defer { Launch.makeWantedTemplates(globals.roots) }
        if arguments.has("detach") { return 0 }
        return try await foreground(process, container, engines, keeps: arguments.has("keep"))
    }

    /// Makes the container, and its process on the host: held ready; or, from the folder of a checkpoint, running.
    @Loop static func make(
        _ arguments: Arguments, _ id: String, _ globals: Globals, checkpoint: String?
    ) async throws -> (Container, ChildProcess) {
        try checkName(id)
        let bundle = absolute(arguments["bundle"] ?? ".")
        let configuration = try readConfiguration("\(bundle)/config.json")
        let plan = try BundlePlan(try RuntimeSpec(parsing: configuration), bundle: bundle)
        try check(plan, arguments)
        try AnnotationPolicy.ofHost().check(plan.spec.annotations ?? [:])
        let engines = globals.engines
        await Reaper(engines.store).reapDead { StandardStreams.complain("hull-runtime: \($0)") }
        let container = try await engines.add(plan, id: id, configuration: configuration, now: Timestamp.now.nanoseconds)
        let creation = Creation(
            container: container, plan: plan, arguments: arguments, globals: globals, checkpoint: checkpoint)
        do { return (container, try await creation.make()) } catch {
            try await engines.remove(container)
            throw error
        }
    }

    /// Waits for the end, and passes signals on.
    @Loop static func foreground(
        _ process: ChildProcess, _ container: Container, _ engines: EngineStore, keeps: Bool
    ) async throws -> Int32 {
        let signals = try Signals(EngineMonitor.passed)
        let passing = Task { @Loop in while true { process.signal(try await signals.next()) } }
        let status = try await process.wait()
        passing.cancel()
        if !keeps, let now = try engines.store.load(container.id) { try await engines.remove(now) }
        switch status {
        case .code(let code): return code
        case .signal(let signal): return 128 + signal
        }
    }

    private static func readConfiguration(_ path: String) throws -> [UInt8] {
        do { return try readFile(path) } catch let error as SystemError where error.code == ENOENT {
            throw SandboxError("JSON specification file config.json not found", exitCode: 1)
        }
    }

    private static func checkName(_ id: String) throws {
        let good = id.utf8.allSatisfy { byte in
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || [95, 43, 45, 46].contains(byte)
        }
        if !good || id == "." || id == ".." || id.utf8.count > 1024 {
            throw SandboxError("invalid container ID format", exitCode: 1)
        }
    }

    private static func check(_ plan: BundlePlan, _ arguments: Arguments) throws {
        var status = stat()
        guard stat(plan.rootfs, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw SandboxError("invalid rootfs: stat \(plan.rootfs): no such file or directory", exitCode: 1)
        }
        let terminal = plan.spec.process?.terminal ?? false
        if terminal, arguments["console-socket"] == nil {
            throw SandboxError("cannot allocate tty if runc will detach without setting console socket", exitCode: 1)
        }
        if !terminal, arguments["console-socket"] != nil {
            throw SandboxError("cannot use console socket if runc will not detach or allocate tty", exitCode: 1)
        }
        guard plan.spec.process?.args?.isEmpty == false else { throw SandboxError("process.args must not be empty", exitCode: 1) }
        switch plan.network {
        case .new: break
        case .host: throw hostNetwork
        case .path(let path):
            guard stat(path, &status) == 0 else {
                throw SandboxError("lstat \(path): \(String(cString: strerror(errno)).lowercased())", exitCode: 1)
            }
            var own = stat()
            if stat("/proc/self/ns/net", &own) == 0, own.st_ino == status.st_ino, own.st_dev == status.st_dev {
                throw hostNetwork
            }
        }
    }

    private static var hostNetwork: SandboxError {
        SandboxError(
            "a container in a machine of its own cannot use the host's network: give it a network of its own and publish its ports",
            exitCode: 1
        )
    }
}

/// Makes a container from its record: cgroup, terminal, monitor, hooks, machine.
struct Creation: Sendable {
    let container: Container
    let plan: BundlePlan
    let arguments: Arguments
    let globals: Globals
    /// The folder of what it goes on from; nil where it begins.
    var checkpoint: String?

    /// A rootless engine that has no cgroup to give names none.
    private var cgroup: Cgroup {
        let user = UserNamespace.owner
        if user != nil, plan.spec.linux?.cgroupsPath?.isEmpty != false { return .none }
        return Cgroup(
            everywhere: plan.cgroup(id: container.record.engine?.id ?? "", systemd: globals.systemdCgroup, user: user))
    }

    @Loop private func runHooks(_ pid: Int32) async throws {
        let state = container.runtimeState(.creating, pid: pid)
        let hooks = plan.spec.hooks
        // To the OCI's suite a prestart hook, which the specification calls after `start` is asked for, sees a created container.
        try await Hooks.run(hooks?.prestart, container.runtimeState(.created, pid: pid))
        try await Hooks.run(hooks?.createRuntime, state)
        try await Hooks.run(hooks?.createContainer, state, in: pid)
    }

    /// When it returns, the container stands ready and its pid file is written. When it throws, the monitor is gone.
    @Loop func make() async throws -> ChildProcess {
        let claim = try await container.claim(cgroup: cgroup, plan)
        var console: Console?
        let size = plan.spec.process?.consoleSize
        if let socket = arguments["console-socket"] {
            console = try await Console.open(for: socket, rows: size?.height, columns: size?.width)
        }
        let streams =
            try console.map { try HandedStreams.terminal($0, rows: size?.height, columns: size?.width) } ?? HandedStreams.own()
        let (client, process) = try Launch.monitor(
            of: container, plan: plan, lock: claim.lock, cgroup: claim.cgroup, console: console)
        do {
            try await container.enter(claim, monitor: process.pid, plan)
            if let checkpoint {
                try await runHooks(process.pid)
                try await client.ask(
                    .engine(.restore(folder: checkpoint, streams.streams)), descriptors: streams.descriptors.map(\.raw))
            } else {
                try await client.ask(.engine(.create(streams.streams)), descriptors: streams.descriptors.map(\.raw))
                do { try await runHooks(process.pid) } catch {
                    // Where the monitor has ended, the hook failed for want of it: why it ended comes first.
                    if process.hasEnded { try await client.expectDone() }
                    throw error
                }
                // A monitor that has ended by now has said why.
                if plan.hasHostHooks { try? await client.ask(.engine(.hooked)) }
            }
            try await client.expectDone()
            // The processors that the boot had more are taken back by now.
            try await claim.cgroup.tellSystemd(user: !UserNamespace.isInitial)
            if let file = arguments["pid-file"] { try replaceFile(file, Array("\(process.pid)".utf8), mode: 0o644) }
            withExtendedLifetime((streams, claim)) {}
            return process
        } catch {
            process.signal(SIGKILL)
            _ = try await process.wait()
            throw SandboxError("unable to start container process: \(error)", exitCode: 1)
        }
    }
}
