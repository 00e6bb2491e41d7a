import Kernels
import LinuxSystem
import Machines

/// What a machine boots from: a kernel, an initramfs with just the modules that this machine needs, and a disk with all the others.
struct Booting {
    let record: ContainerRecord
    let roots: Roots
    let hypervisor: any Hypervisor

    /// The machine's spec, whole.
    @Loop
    func complete(_ host: Planner.Host, _ planner: Planner, _ mounts: [ResolvedMount]) async throws -> MachineSpec {
        let kernels = KernelStore(cache: roots.cache, library: roots.kernels)
        let kernel = try await kernels.kernel(record.machine.kernel)
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
        if spec.kind == .hvm {
            let image = try roots.stubdomains.newest()
            let ramdisk = try await kernels.stubdomainRamdisk(image, kernel: kernel, initramfs: spec.initramfs)
            spec.stubdomain = .init(kernel: image.kernel, ramdisk: ramdisk.path, memoryBytes: ramdisk.memoryBytes)
        }
        return spec
    }

    /// Whether there is an image for the domains of device models: for `hull doctor`.
    @Loop
    static func describeStubdomain(_ roots: Roots) -> Finding {
        do {
            let image = try roots.stubdomains.newest()
            return Finding(
                level: .good, subject: "stubdomain",
                text: "the device models of --machine hvm run in domains of the image \(image.name), with Linux \(image.release)")
        } catch { return Finding(level: .remark, subject: "stubdomain", text: "--machine hvm does not work yet: \(error)") }
    }

    /// One sentence about the kernel that machines get: for `hull doctor`.
    @Loop
    static func describeKernel(_ roots: Roots) async throws -> String {
        let kernel = try await KernelStore(cache: roots.cache, library: roots.kernels).kernel()
        return "guests boot \(kernel.release), from \(kernel.source)\(kernel.modules == nil ? ", without modules" : "")"
    }
}
