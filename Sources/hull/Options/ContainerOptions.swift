import ArgumentParser
import LinuxSystem
import Sandboxes

/// The flags that `run` and `create` share: Docker's, by Docker's names, and the machine's own; a group of `--help` is a type.
struct ContainerOptions: ParsableArguments {
    @OptionGroup(title: "Container") var container: IdentityOptions
    @OptionGroup(title: "Process") var process: ProcessOptions
    @OptionGroup(title: "Files") var files: FileOptions
    @OptionGroup(title: "Network") var network: NetworkOptions
    @OptionGroup(title: "Limits") var limits: LimitOptions
    @OptionGroup(title: "Rights") var rights: RightOptions
    @OptionGroup(title: "Machine") var machine: MachineOptions
    @OptionGroup(title: "Resident machine (Xen)") var resident: ResidentOptions

    /// What the flags ask for.
    func request(command: [String]) throws -> RunRequest {
        var request = RunRequest()
        request.command = command
        try container.apply(to: &request)
        try process.apply(to: &request)
        try files.apply(to: &request)
        try network.apply(to: &request)
        try limits.apply(to: &request)
        rights.apply(to: &request)
        machine.apply(to: &request)
        try resident.apply(to: &request)
        return request
    }
}

struct IdentityOptions: ParsableArguments {
    @Option(name: .long, help: "Name of the container.") var name: String?
    @Flag(name: .customLong("rm"), help: "Remove the container, with its anonymous volumes, when it has ended.") var remove =
        false
    @Option(name: .long, help: "Write the container's id to this file, which must not exist.") var cidfile: String?
    @Option(name: .shortAndLong, help: ArgumentHelp("A label on the container.", valueName: "key=value")) var label: [String] = []
    @Option(name: .long, help: "When to ask the registry: always, missing or never.") var pull = "missing"
    @Flag(name: [.customShort("q"), .customLong("quiet")], help: "Say nothing while pulling.") var quiet = false

    func apply(to request: inout RunRequest) throws {
        request.name = name
        request.autoRemove = remove
        request.labels = try OptionText.pairs(label, flag: "--label", emptyValue: true)
    }
}

struct RightOptions: ParsableArguments {
    @Flag(
        name: .long, help: "Everything inside the guest: all capabilities, no seccomp, /sys writable. The host stays closed.")
    var privileged = false
    @Option(name: .long, help: "Add a capability.") var capAdd: [String] = []
    @Option(name: .long, help: "Drop a capability.") var capDrop: [String] = []
    @Option(name: .long, help: "no-new-privileges, or seccomp=unconfined.") var securityOpt: [String] = []

    func apply(to request: inout RunRequest) {
        request.privileged = privileged
        request.capabilitiesToAdd = capAdd
        request.capabilitiesToDrop = capDrop
        request.securityOptions = securityOpt
    }
}

struct MachineOptions: ParsableArguments {
    @Option(name: .long, help: "The hypervisor: qemu or xen. Unless told: xen in a Dom0, else qemu.") var hypervisor: String?
    @Option(name: .long, help: "The board: auto, microvm or q35; pv, pvh or hvm of Xen.") var machine: String?
    @Option(
        name: .long,
        help:
            "A kernel for the guest: a bzImage or vmlinux (its modules are looked for in /lib/modules), a name of hull kernel ls, or host."
    )
    var kernel: String?
    @Option(name: .long, help: "Added to the guest's kernel command line.") var kernelArgs: String?
    @Option(name: .long, help: "The accelerator: auto, kvm or tcg.") var accel: String?
    @Flag(name: .long, help: "Boot the machine, though there may be a template to clone.") var noTemplate = false

    func apply(to request: inout RunRequest) {
        request.machine.hypervisor = hypervisor ?? Drivers.standard
        request.machine.machine = machine
        // What is no file is a name.
        request.machine.kernel = kernel.map { exists($0) || $0.contains("/") ? Globals.absolute($0) : $0 }
        request.machine.kernelArguments = kernelArgs
        request.machine.accelerator = accel
        request.machine.withoutTemplate = noTemplate ? true : nil
    }
}
