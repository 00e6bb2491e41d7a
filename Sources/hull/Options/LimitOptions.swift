import ArgumentParser
import Sandboxes

struct LimitOptions: ParsableArguments {
    @Option(
        name: [.customShort("m", allowingJoined: true), .long],
        help: "Memory, e.g. 512m; the machine gets it and what its kernel needs.")
    var memory: String?
    @Option(name: .long, help: "Processors, e.g. 1.5; the machine gets the next whole number.") var cpus: Double?
    @Option(name: .long, help: "Most processes; -1 for no limit.") var pidsLimit: Int?
    @Option(name: .long, help: ArgumentHelp("A resource limit.", valueName: "type=soft[:hard]")) var ulimit: [String] = []
    @Option(name: .long, help: ArgumentHelp("A kernel parameter of the guest.", valueName: "name=value")) var sysctl: [String] =
        []
    @Option(name: .long, help: "Adjusts the container's OOM score in the guest (-1000 to 1000).") var oomScoreAdj: Int32?

    func apply(to request: inout RunRequest) throws {
        request.resources.memory = try memory.map { text in
            guard let bytes = ByteCount.parse(text) else {
                throw SandboxError("invalid --memory \"\(text)\": write e.g. 512m or 2g")
            }
            return bytes
        }
        request.resources.cpus = cpus
        request.resources.pids = pidsLimit.flatMap { $0 > 0 ? $0 : nil }
        request.limits = try ulimit.map { try Limits.parse($0) }
        request.sysctls = try OptionText.pairs(sysctl, flag: "--sysctl", emptyValue: false)
        request.oomScoreAdjustment = oomScoreAdj
    }
}
