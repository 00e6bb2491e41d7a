import ArgumentParser
import Sandboxes

/// The flags of `run` that a machine depends on before its container is known: for templates and pools.
struct ShapeOptions: ParsableArguments {
    @Option(name: [.customLong("network"), .customLong("net")], help: "none, or bridge (the default).") var network = "bridge"
    @Option(name: .shortAndLong, help: "Memory of the container, e.g. 512m.") var memory: String?
    @Option(name: .long, help: "Processors, e.g. 1.5.") var cpus: Double?
    @OptionGroup(title: "Machine") var machine: MachineOptions

    /// A request with just these.
    func request() throws -> RunRequest {
        var request = RunRequest()
        machine.apply(to: &request)
        guard let mode = ContainerRecord.NetworkSettings.Mode(rawValue: network) else {
            throw SandboxError("unknown network \"\(network)\": none and bridge are known")
        }
        request.network.mode = mode
        request.resources.memory = try memory.map { text in
            guard let bytes = ByteCount.parse(text) else {
                throw SandboxError("invalid --memory \"\(text)\": write e.g. 512m or 2g")
            }
            return bytes
        }
        request.resources.cpus = cpus
        return request
    }
}
