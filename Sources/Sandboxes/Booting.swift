import LinuxSystem
import Machines

struct Booting {
    let record: ContainerRecord
    let cache: String
    let hypervisor: any Hypervisor
    @Loop func complete(_ host: Planner.Host, _ planner: Planner, _ mounts: [ResolvedMount])
        async throws -> MachineSpec
    { fatalError() }
  static func describeKernel(cache: String) async throws -> String { fatalError() }
}
