import Kernels
import LinuxSystem
import Machines

/// What a machine boots from: a kernel, an initramfs with just the modules that this machine needs, and a disk with all the others.
struct Booting {
    let record: ContainerRecord
    let cache: String
    let hypervisor: any Hypervisor

    /// The machine's spec, whole.
    @Loop
    func complete(_ host: Planner.Host, _ planner: Planner, _ mounts: [ResolvedMount]) async throws -> MachineSpec {
        let kernels = KernelStore(cache: cache)
        let kernel = try await kernels.kernel(at: record.machine.kernel)
        var host = host
        host.kernel = kernel.image
        host.modulesDisk = try await kernels.modulesImage(for: kernel)
        var spec = try planner.machine(on: host, mounts: mounts)
        var modules = try hypervisor.layout(of: spec).modules
        if case .image = record.root {
            modules += ["erofs", "overlay"]
        } else if host.modulesDisk != nil {
            modules.append("erofs")
        }
        spec.initramfs = try await kernels.initramfs(for: kernel, agent: Companion.path("hull-init"), modules: modules)
        return spec
    }

    /// One sentence about the kernel that machines get: for `hull doctor`.
    @Loop
    static func describeKernel(cache: String) async throws -> String {
        let kernel = try await KernelStore(cache: cache).kernel()
        return "guests boot \(kernel.release), from \(kernel.source)\(kernel.modules == nil ? ", without modules" : "")"
    }
}
