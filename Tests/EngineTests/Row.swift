import LinuxSystem

/// What a row found instead of what must hold.
struct Mismatch: Error, CustomStringConvertible {
    var line: String
    var wanted: String
    var got: String
    var description: String { "`\(line)`: expected \(wanted), got \(got)" }
}

/// One behaviour of an engine that must be the same under every runtime: a line of the checklist.
struct Row: Sendable {
    enum Kind: String, Sendable, CaseIterable { case docker, podman, containerd, cri }

    /// The behaviour, in words; unique.
    var name: String
    /// What of the runtime's contract it is about.
    var noun: Noun
    /// The engines that have it.
    var engines: Set<Kind>
    /// The engines under which it is part of the short selection.
    var short: Set<Kind>
    /// Only a machine shows it (the size of its memory, say), so runtimes that share the host's kernel are not asked.
    var machineOnly: Bool
    var body: @Loop @Sendable (Stage) async throws -> Void

    init(
        _ name: String, _ noun: Noun, on engines: Set<Kind> = [.docker, .podman], short: Set<Kind> = [],
        machineOnly: Bool = false,
        _ body: @escaping @Loop @Sendable (Stage) async throws -> Void
    ) {
        self.name = name
        self.noun = noun
        self.engines = engines
        self.short = short
        self.machineOnly = machineOnly
        self.body = body
    }
}

/// What an engine's users rely on, each with at least one row.
enum Noun: String, CaseIterable, Sendable {
    case exitCodes = "exit codes"
    case streams = "stdout and stderr apart"
    case exec, terminals, signals, holder
    case outOfMemory = "OOMKilled"
    case life = "create, start, stop"
    case volumes, binds, tmpfs, files, sockets, devices, shm, mqueue, propagation, inotify
    case identityMaps = "idmap"
    case user, groups, umask, capabilities, rlimits, process
    case noNewPrivileges = "no-new-privileges"
    case seccomp, sysctl
    case readOnly = "read-only"
    case masked = "masked paths"
    case oomScore = "oomScoreAdj"
    case memory, cpus, pids, update, pause, stats, top
    case copy = "cp"
    case diff, commit, export
    case network
    case liveNetwork = "network connect and disconnect"
    case names = "embedded DNS"
    case sharedNetwork = "container: network"
    case ports = "published ports"
    case hostNamespaces = "namespaces of the host"
    case initProcess = "--init"
    case privileged
    case health = "healthcheck"
    case restart = "restart policy"
    case logs, attach, wait, rename, events, build, compose, pods, kube, hooks, annotations
    case checkpoint
    case kubernetes = "Kubernetes pods"
    case hull = "one monitor, one state"
}

extension String {
    /// The words of a command line; ' and " hold words together, and nothing else is special.
    var words: [String] {
        var all: [String] = []
        var word: String?
        var quote: Character?
        for character in self {
            if character == quote {
                quote = nil
            } else if quote != nil {
                word?.append(character)
            } else if character == "'" || character == "\"" {
                quote = character
                word = word ?? ""
            } else if character == " " {
                if let ended = word { all.append(ended) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        return all + (word.map { [$0] } ?? [])
    }
}
