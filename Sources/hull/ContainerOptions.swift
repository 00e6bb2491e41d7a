import ArgumentParser
import Glibc
import HostNetwork
import LinuxSystem
import Sandboxes

/// The flags that `run` and `create` share: Docker's, by Docker's names, and the machine's own.
struct ContainerOptions: ParsableArguments {
    @Option(name: .long, help: "Name of the container.") var name: String?
    @Flag(name: .shortAndLong, help: "Keep standard input open.") var interactive = false
    @Flag(name: .shortAndLong, help: "Give the container a terminal.") var tty = false
    @Flag(
        name: .customLong("rm"),
        help: "Remove the container, with its anonymous volumes, when it has ended.") var remove = false
    @Option(name: .long, help: "Write the container's id to this file, which must not exist.")
    var cidfile: String?
    @Option(name: .long, help: "When to ask the registry: always, missing or never.") var pull =
        "missing"
    @Flag(name: [.customShort("q"), .customLong("quiet")], help: "Say nothing while pulling.")
    var quiet = false
    @Option(
        name: .shortAndLong, help: ArgumentHelp("A label on the container.", valueName: "key=value"))
    var label: [String] = []

    @Option(
        name: [.customShort("e", allowingJoined: true), .long],
        help: ArgumentHelp(
            "An environment variable; without a value, this environment's.", valueName: "name[=value]"))
    var env: [String] = []
    @Option(name: .long, help: "Read environment variables from a file.") var envFile: [String] = []
    @Option(
        name: [.customShort("w", allowingJoined: true), .customLong("workdir")],
        help: "Working directory in the container.") var workdir: String?
    @Option(
        name: [.customShort("u", allowingJoined: true), .long],
        help: ArgumentHelp("User, and group, by name or number.", valueName: "user[:group]")) var user: String?
    @Option(name: .long, help: "A further group.") var groupAdd: [String] = []
    @Option(name: .long, help: "Run this instead of the image's entrypoint.") var entrypoint: String?
    @Flag(
        name: .customLong("init"), help: "Run a small init that reaps processes and passes signals on.")
    var initWrapper = false
    @Option(name: .long, help: "Signal that asks the container to end.") var stopSignal: String?
    @Option(name: .long, help: "Seconds that stop waits before it kills.") var stopTimeout = 10

    @Option(
        name: [.customShort("v", allowingJoined: true), .customLong("volume")],
        help: ArgumentHelp(
            "A folder or file of the host, or a volume.", valueName: "[source:]destination[:ro]"))
    var volume: [String] = []
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The same, spelled out.", valueName: "type=bind|volume|tmpfs,source=…,destination=…"))
    var mount: [String] = []
    @Option(name: .long, help: ArgumentHelp("Memory as a folder.", valueName: "destination[:size=…]"))
    var tmpfs: [String] = []
    @Flag(name: .long, help: "The root filesystem cannot be written.") var readOnly = false
    @Option(name: .long, help: "Size of /dev/shm.") var shmSize: String?

    @Option(
        name: [.customLong("network"), .customLong("net")], help: "none, or bridge (the default).")
    var network = "bridge"
    @Option(
        name: [.customShort("p", allowingJoined: true), .customLong("publish")],
        help: ArgumentHelp("Publish a port.", valueName: "[[ip:]host:]container[/udp]"))
    var publish: [String] = []
    @Flag(
        name: [.customShort("P"), .customLong("publish-all")],
        help: "Publish every port that the image exposes.") var publishAll = false
    @Option(name: [.customShort("h"), .long], help: "The container's hostname.") var hostname: String?
    @Option(name: .long, help: "A nameserver instead of the host's.") var dns: [String] = []
    @Option(name: .long, help: "A search domain.") var dnsSearch: [String] = []
    @Option(name: .long, help: "A resolver option.") var dnsOption: [String] = []
    @Option(name: .long, help: ArgumentHelp("A line for /etc/hosts.", valueName: "name:address"))
    var addHost: [String] = []

    @Option(
        name: [.customShort("m", allowingJoined: true), .long],
        help: "Memory, e.g. 512m; the machine gets it and Hull's overhead.") var memory: String?
    @Option(name: .long, help: "Processors, e.g. 1.5; the machine gets the next whole number.")
    var cpus: Double?
    @Option(name: .long, help: "Most processes; -1 for no limit.") var pidsLimit: Int?
    @Option(name: .long, help: ArgumentHelp("A resource limit.", valueName: "type=soft[:hard]"))
    var ulimit: [String] = []
    @Option(
        name: .long, help: ArgumentHelp("A kernel parameter of the guest.", valueName: "name=value"))
    var sysctl: [String] = []
    @Option(name: .long, help: "Adjusts the container's OOM score in the guest (-1000 to 1000).")
    var oomScoreAdj: Int32?

    @Flag(
        name: .long,
        help:
            "Everything inside the guest: all capabilities, no seccomp, /sys writable. The host stays closed."
    ) var privileged = false
    @Option(name: .long, help: "Add a capability.") var capAdd: [String] = []
    @Option(name: .long, help: "Drop a capability.") var capDrop: [String] = []
    @Option(name: .long, help: "no-new-privileges, or seccomp=unconfined.") var securityOpt: [String] = []

    @Option(name: .long, help: "The hypervisor to use.") var hypervisor = "qemu"
    @Option(name: .long, help: "The board: auto, microvm or q35.") var machine: String?
    @Option(
        name: .long,
        help: "A kernel for the guest: bzImage or vmlinux. Its modules are looked for in /lib/modules.")
    var kernel: String?
    @Option(name: .long, help: "Added to the guest's kernel command line.") var kernelArgs: String?
    @Option(name: .long, help: "The accelerator: auto, kvm or tcg.") var accel: String?

    /// What the flags ask for.
    func request(command: [String]) throws -> RunRequest {
        var request = RunRequest()
        request.name = name
        request.command = command
        request.entrypoint = entrypoint
        request.environment = try Self.environment(files: envFile, entries: env)
        request.directory = workdir
        request.user = user
        request.groups = groupAdd
        request.hostname = hostname
        request.terminal = tty
        request.input = interactive
        request.autoRemove = remove
        request.mounts =
            try volume.map { try MountFlags.volume($0) } + mount.map { try MountFlags.mount($0) }
            + tmpfs.map { try MountFlags.tmpfs($0) }
        for index in request.mounts.indices {
            if case .bind(let path) = request.mounts[index].source {
                request.mounts[index].source = .bind(Globals.absolute(path))
            }
        }
        request.readOnlyRoot = readOnly
        request.initWrapper = initWrapper
        request.stopSignal = stopSignal
        request.stopTimeout = stopTimeout
        request.labels = try Self.pairs(label, flag: "--label", emptyValue: true)
        request.sysctls = try Self.pairs(sysctl, flag: "--sysctl", emptyValue: false)
        request.privileged = privileged
        request.capabilitiesToAdd = capAdd
        request.capabilitiesToDrop = capDrop
        request.securityOptions = securityOpt
        request.limits = try ulimit.map { try Limits.parse($0) }
        request.oomScoreAdjustment = oomScoreAdj

        switch network {
        case "none": request.network.mode = .none
        case "bridge", "default": request.network.mode = .bridge
        case "host":
            throw SandboxError(
                "--network host would put the machine's network beside the host's, which no machine can be: publish ports with -p"
            )
        default: throw SandboxError("unknown network \"\(network)\": none and bridge are known")
        }
        for text in publish { request.network.ports += try PortRequest.parse(text) }
        request.publishAll = publishAll
        request.network.dns = dns
        request.network.dnsSearch = dnsSearch
        request.network.dnsOptions = dnsOption
        for entry in addHost {
            guard let colon = entry.firstIndex(of: ":"), colon != entry.startIndex,
                entry.index(after: colon) != entry.endIndex
            else {
                throw SandboxError("invalid --add-host \"\(entry)\": write name:address")
            }
        }
        request.network.extraHosts = addHost

        request.resources.memory = try memory.map { text in
            guard let bytes = ByteCount.parse(text) else {
                throw SandboxError("invalid --memory \"\(text)\": write e.g. 512m or 2g")
            }
            return bytes
        }
        request.resources.cpus = cpus
        request.resources.pids = pidsLimit.flatMap { $0 > 0 ? $0 : nil }
        if let shmSize {
            guard let bytes = ByteCount.parse(shmSize), bytes > 0 else {
                throw SandboxError("invalid --shm-size \"\(shmSize)\": write e.g. 64m")
            }
            request.resources.shm = bytes
        }
        request.machine.hypervisor = hypervisor
        request.machine.machine = machine
        request.machine.kernel = kernel.map(Globals.absolute)
        request.machine.kernelArguments = kernelArgs
        request.machine.accelerator = accel
        return request
    }

    static func pairs(_ texts: [String], flag: String, emptyValue: Bool) throws -> [String: String] {
        var all: [String: String] = [:]
        for text in texts {
            let pair = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(
                String.init)
            guard !pair[0].isEmpty, pair.count == 2 || emptyValue else {
                throw SandboxError("invalid \(flag) \"\(text)\": write NAME=VALUE")
            }
            all[pair[0]] = pair.count == 2 ? pair[1] : ""
        }
        return all
    }

    /// Variables from files, then from flags; a name alone takes this process's value, or nothing when it has none.
    static func environment(files: [String], entries: [String]) throws -> [String] {
        var all: [String] = []
        func add(_ entry: String) {
            if entry.contains("=") {
                all.append(entry)
            } else if let value = getenv(entry) {
                all.append("\(entry)=\(String(cString: value))")
            }
        }
        for file in files {
            for line in try readText(file).split(separator: "\n") {
                let entry = line.drop { $0 == " " || $0 == "\t" }
                if entry.isEmpty || entry.hasPrefix("#") { continue }
                guard let first = entry.first, first != "=" else {
                    throw SandboxError("the line \"\(line)\" of \(file) names no variable")
                }
                add(String(entry))
            }
        }
        for entry in entries {
            guard let first = entry.first, first != "=" else {
                throw SandboxError("invalid --env \"\(entry)\": write NAME=VALUE")
            }
            add(entry)
        }
        return all
    }
}
