import CLinux
import Glibc
import LinuxSystem
import Sandboxes
import Storage

/// Starts the processes that stand for a container or an exec.
enum Launch {
    /// A container's monitor, in its cgroup and in namespaces of its own.
    @Loop static func monitor(
        of container: Container, plan: BundlePlan, lock: FileLock, cgroup: Cgroup, console: Console?
    ) throws -> (client: MonitorClient, process: ChildProcess) {
        let (ours, theirs) = try makeSocketPair(nonBlocking: true)
        let log = SharedDescriptor(try openFile(container.paths.monitorLog, O_WRONLY | O_CREAT | O_APPEND))
        let kind = console == nil ? "-" : "tty"
        let sandbox = container.record.engine?.sandbox.map { container.roots.container($0).socket }
        var how = try own(sandbox.map { ["member", container.id, kind, $0] } ?? ["monitor", container.id, kind], log)
        how.arguments[0] = "hull-monitor"
        how.descriptors += [(theirs, 3), (lock.raw, 4)]
        how.namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS
        switch plan.network {
        case .new: how.namespaces |= CLONE_NEWNET
        case .path(let path): how.networkNamespace = SharedDescriptor(try openFile(path, O_RDONLY))
        case .host: break
        }
        if let console {
            how.descriptors.append((console.slave, 5))
            how.controllingTerminal = 5
        }
        let process = try withExtendedLifetime((lock, console)) { try how.spawn() }
        do {
            // Its first child comes with the first request, and is in them too.
            if cgroup.isSupported, cgroup.scope == nil { try process.join(try cgroup.entrances()) }
        } catch {
            process.signal(SIGKILL)
            throw error
        }
        return (MonitorClient(ours), process)
    }

    /// The maker of templates, where one is wanted, and keepers of those that are to be awake. The maker gives way to everything else, nobody
    /// waits for them, and nothing depends on them.
    @Loop static func makeWantedTemplates(_ roots: Roots) {
        do { try roots.awake.collectLeftovers() } catch {
            StandardStreams.complain("hull-runtime: cannot take back what a killed keeper of a template left: \(error)")
        }
        do {
            try TemplateKeeper.startWanted(roots) { try own($0, $1) }
            guard try !roots.templates.wanted().isEmpty else { return }
            let log = SharedDescriptor(try openFile("\(roots.templates.path)/build.log", O_WRONLY | O_CREAT | O_TRUNC))
            var how = try own(["template-builder"], log)
            how.namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET
            _ = try how.spawn()
        } catch { StandardStreams.complain("hull-runtime: no template can be made: \(error)") }
    }

    private static func own(_ words: [String], _ complaints: any DescriptorSource) throws -> Spawn {
        try .own(words, complaints: complaints, variables: ["HULL_ROOT", "HULL_EXEC_ROOT", "XDG_RUNTIME_DIR"])
    }
}

/// What a container or an exec gets as its standard streams.
struct HandedStreams: Sendable {
    var streams = Streams()
    var descriptors: [SharedDescriptor] = []

    /// This process's own.
    static func own() throws -> HandedStreams {
        var all = HandedStreams()
        if let input = try StandardStream.handable(0, writing: false) {
            all.streams.input = true
            all.descriptors.append(input)
        }
        all.streams.ownsInput = true
        if let output = try StandardStream.handable(1, writing: true) {
            all.streams.output = true
            all.descriptors.append(output)
        }
        if let error = try StandardStream.handable(2, writing: true) {
            all.streams.error = true
            all.descriptors.append(error)
        }
        return all
    }

    /// A terminal's: one open file, for both directions.
    static func terminal(_ console: Console, rows: UInt16?, columns: UInt16?) throws -> HandedStreams {
        let file = SharedDescriptor(try openFile("/proc/self/fd/\(console.slave.raw)", O_RDWR | O_NONBLOCK | O_NOCTTY))
        var all = HandedStreams()
        all.streams.input = true
        all.streams.output = true
        all.streams.rows = rows
        all.streams.columns = columns
        all.descriptors = [file, file]
        return all
    }
}
