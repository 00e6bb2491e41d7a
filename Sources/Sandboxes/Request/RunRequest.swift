public import HostNetwork
import LinuxSystem
public import OCISpec

/// What a user asks of `run` and `create`, parsed but not yet combined with what the image says.
public struct RunRequest: Sendable {
    public var name: String?
    public var command: [String] = []
    /// nil: the image's; empty: none.
    public var entrypoint: String?
    /// `NAME=value`; later ones win.
    public var environment: [String] = []
    public var directory: String?
    public var user: String?
    public var groups: [String] = []
    public var hostname: String?
    public var terminal = false
    public var input = false
    public var mounts: [ContainerRecord.Mount] = []
    public var readOnlyRoot = false
    public var network = ContainerRecord.NetworkSettings()
    public var publishAll = false
    public var resources = ContainerRecord.Resources()
    public var machine = ContainerRecord.MachineSettings()
    public var privileged = false
    public var capabilitiesToAdd: [String] = []
    public var capabilitiesToDrop: [String] = []
    public var securityOptions: [String] = []
    public var limits: [ContainerRecord.Limit] = []
    public var sysctls: [String: String] = [:]
    public var stopSignal: String?
    public var stopTimeout = 10
    public var labels: [String: String] = [:]
    public var initWrapper = false
    public var autoRemove = false
    public var oomScoreAdjustment: Int32?

    public init() {}

    /// The smallest amount of memory a container can be given: Docker's.
    static let leastMemory: UInt64 = 6 << 20

    /// The record of a new container: this request on top of the image's configuration (nil for a plain root filesystem).
    /// Throws when they do not add up to something that can run. Pure.
    public func record(id: String, root: ContainerRecord.Root, image: ImageConfig?, now: Int64) throws
        -> ContainerRecord
    {
        let defaults = image?.config
        var process = ContainerRecord.ProcessSettings(arguments: try arguments(defaults))
        process.environment = environment(over: defaults?.env ?? [])
        process.directory = directory ?? defaults?.workingDir.flatMap { $0.isEmpty ? nil : $0 } ?? "/"
        guard process.directory.hasPrefix("/") else {
            throw SandboxError(
                "the working directory \"\(process.directory)\" is not absolute: give a path that begins with /"
            )
        }
        process.user = user ?? defaults?.user ?? ""
        process.groups = groups
        process.terminal = terminal
        process.input = input
        process.capabilities = try Capabilities.resolve(
            add: capabilitiesToAdd, drop: capabilitiesToDrop, privileged: privileged)
        process.limits = limits
        process.initWrapper = initWrapper
        process.oomScoreAdjustment = oomScoreAdjustment
        process.seccomp = !privileged
        for option in securityOptions {
            switch option {
            case "no-new-privileges", "no-new-privileges:true", "no-new-privileges=true":
                process.noNewPrivileges = true
            case "no-new-privileges:false", "no-new-privileges=false": process.noNewPrivileges = false
            case "seccomp=unconfined", "seccomp:unconfined": process.seccomp = false
            default:
                throw SandboxError(
                    "unknown --security-opt \"\(option)\": no-new-privileges and seccomp=unconfined are known"
                )
            }
        }

        if let name, !VolumeName.isValid(name) || name.utf8.count < 2 {
            throw SandboxError(
                "invalid container name \"\(name)\": use two or more letters, digits, _ . -, beginning with a letter or digit"
            )
        }
        var record = ContainerRecord(
            id: id, name: name ?? ContainerName.random(), created: now, root: root, process: process)
        if let hostname {
            guard !hostname.isEmpty, hostname.utf8.count <= 63, VolumeName.isValid(hostname) else {
                throw SandboxError("invalid hostname \"\(hostname)\": at most 63 letters, digits, - and .")
            }
            record.hostname = hostname
        }
        record.mounts = try mounts(with: defaults?.volumes ?? [])
        record.readOnlyRoot = readOnlyRoot
        record.network = try network(exposed: defaults?.exposedPorts ?? [])
        record.resources = try checkedResources()
        record.machine = machine
        record.privileged = privileged
        record.sysctls = sysctls
        record.stopSignal = stopSignal ?? defaults?.stopSignal ?? "TERM"
        guard Signals.number(record.stopSignal) != nil else {
            throw SandboxError("unknown stop signal \"\(record.stopSignal)\": signal(7) lists them")
        }
        record.stopTimeout = stopTimeout
        record.labels = (defaults?.labels ?? [:]).merging(labels) { _, mine in mine }
        record.autoRemove = autoRemove
        return record
    }

    private func arguments(_ defaults: ImageConfig.Execution?) throws -> [String] {
        let entry: [String]
        if let entrypoint {
            entry = entrypoint.isEmpty ? [] : [entrypoint]
        } else {
            entry = defaults?.entrypoint ?? []
        }
        // A new entrypoint drops the image's command, as Docker does.
        let rest = command.isEmpty && entrypoint == nil ? defaults?.cmd ?? [] : command
        let all = entry + rest
        guard !all.isEmpty else {
            throw SandboxError("no command specified, and the image names none: give one after the image")
        }
        return all
    }

    private func environment(over base: [String]) -> [String] {
        var order: [String] = []
        var values: [String: String] = [:]
        func set(_ entry: String) {
            let name = String(entry.prefix { $0 != "=" })
            if values.updateValue(entry, forKey: name) == nil { order.append(name) }
        }
        set("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        if terminal { set("TERM=xterm") }
        base.forEach(set)
        environment.forEach(set)
        return order.compactMap { values[$0] }
    }

    private func mounts(with imageVolumes: [String]) throws -> [ContainerRecord.Mount] {
        var all = mounts
        var taken: Set<String> = []
        for mount in mounts {
            guard taken.insert(Self.normal(mount.destination)).inserted else {
                throw SandboxError("two mounts have the destination \(mount.destination): drop one of them")
            }
        }
        for volume in imageVolumes.sorted() where !taken.contains(Self.normal(volume)) {
            var mount = ContainerRecord.Mount(
                source: .volume(name: "", anonymous: true), destination: volume)
            mount.copy = true
            all.append(mount)
        }
        for index in all.indices {
            if case .volume("", true) = all[index].source {
                all[index].source = .volume(name: ContainerStore.newIdentifier(), anonymous: true)
            }
        }
        return all
    }

    private static func normal(_ path: String) -> String {
        "/" + path.split(separator: "/").joined(separator: "/")
    }

    private func network(exposed: [String]) throws -> ContainerRecord.NetworkSettings {
        var settings = network
        if publishAll {
            for text in exposed.sorted() {
                settings.ports += try PortRequest.parse(text.contains("/") ? ":\(text)" : ":\(text)/tcp")
            }
        }
        if settings.mode == .none, !settings.ports.isEmpty {
            throw SandboxError(
                "ports cannot be published with --network none: drop -p, or use the bridge")
        }
        return settings
    }

    private func checkedResources() throws -> ContainerRecord.Resources {
        if let memory = resources.memory, memory < Self.leastMemory {
            throw SandboxError(
                "--memory \(ByteCount.format(memory)) is too small: 6m is the least a container can be given"
            )
        }
        if let cpus = resources.cpus, cpus < 0.01 || cpus > 4096 {
            throw SandboxError(
                "--cpus \(cpus) is out of range: give between 0.01 and the number of the host's processors")
        }
        return resources
    }
}
