import LinuxSystem
import OCISpec
import Sandboxes

/// `update`: new limits for a running container.
enum UpdateVerb {
    @Loop static func perform(_ words: some Sequence<String>, _ globals: Globals) async throws -> Int32 {
        let arguments = try Arguments(
            words,
            valued: [
                "resources", "memory", "memory-reservation", "memory-swap", "cpu-quota", "cpu-period", "cpu-share", "cpuset-cpus",
                "cpuset-mems", "pids-limit", "blkio-weight", "cpu-rt-period", "cpu-rt-runtime", "kernel-memory",
                "kernel-memory-tcp",
                "l3-cache-schema", "mem-bw-schema", "cpu-idle",
            ], short: ["r": "resources"])
        let container = try globals.engines.require(try arguments.id("update"))
        let resources: ResourceLimits
        if let file = arguments["resources"] {
            resources = try ResourceLimits(parsing: file == "-" ? try readFile(0, "standard input") : try readFile(file))
        } else {
            resources = try flags(arguments)
        }
        try await LifeVerbs.ask(container, .update(resources))
        try await container.tellSystemd()
        return 0
    }

    private static func flags(_ arguments: Arguments) throws -> ResourceLimits {
        func number(_ name: String) throws -> Int64? {
            guard let text = arguments[name] else { return nil }
            if let value = Int64(text) { return value }
            guard let bytes = ByteCount.parse(text) else { throw SandboxError("invalid value for \(name): \(text)", exitCode: 1) }
            return Int64(clamping: bytes)
        }
        var resources = ResourceLimits()
        var memory = ResourceLimits.Memory()
        memory.limit = try number("memory")
        memory.reservation = try number("memory-reservation")
        memory.swap = try number("memory-swap")
        resources.memory = memory
        var cpu = ResourceLimits.CPU()
        cpu.quota = try number("cpu-quota")
        cpu.period = try number("cpu-period").map { UInt64(clamping: $0) }
        cpu.shares = try number("cpu-share").map { UInt64(clamping: $0) }
        cpu.cpus = arguments["cpuset-cpus"]
        cpu.mems = arguments["cpuset-mems"]
        cpu.idle = try number("cpu-idle")
        cpu.realtimeRuntime = try number("cpu-rt-runtime")
        cpu.realtimePeriod = try number("cpu-rt-period").map { UInt64(clamping: $0) }
        resources.cpu = cpu
        if let weight = try number("blkio-weight") {
            var blocks = ResourceLimits.BlockIO()
            blocks.weight = UInt16(clamping: weight)
            resources.blockIO = blocks
        }
        resources.pids = try number("pids-limit").map { ResourceLimits.Pids(limit: $0) }
        return resources
    }
}
