import FoundationEssentials
import Glibc
import HostNetwork
import Images
public import LinuxSystem
public import Machines
import Netlink
import OCISpec
import Storage

/// A template that somebody asks for by name of its machine, before any container wants it.
public struct TemplateWish: Sendable {
    private let roots: Roots
    private let drivers: [String: @Sendable () -> any Hypervisor]

    /// For machines by `drivers`, named as `--hypervisor` has them.
    public init(roots: Roots, drivers: [String: @Sendable () -> any Hypervisor]) {
        self.roots = roots
        self.drivers = drivers
    }

    /// Notes that the template of the machine which `request` would have is wanted; `share`: of one with bind mounts or volumes.
    /// Returns its key, and what `AwakeTemplates.wake` needs where that is of use.
    @Loop
    public func make(_ request: RunRequest, share: Bool) async throws -> (key: String, waking: [UInt8]?) {
        try roots.prepare()
        guard let hypervisor = drivers[request.machine.hypervisor]?(), let templating = hypervisor.templating else {
            throw SandboxError("the hypervisor \"\(request.machine.hypervisor)\" makes no templates")
        }
        let folder = "\(roots.cache)/.wish-\(getpid())"
        try makeDirectories(folder)
        defer {
            // Two empty files; what cannot be removed now is in nobody's way.
            try? removeTree(folder)
        }
        for (name, size) in [("root", ImageStore.rootSize), ("rw", Planner.diskSize)] {
            let file = try openFile("\(folder)/\(name)", O_RDWR | O_CREAT | O_EXCL)
            try checked("set the length of", name) { ftruncate(file.raw, Int(size)) }
        }
        var request = request
        request.command = ["true"]
        let record = try request.record(
            id: String(repeating: "0", count: 64), root: .image(reference: "", id: "", file: "\(folder)/root"), image: nil, now: 0
        )
        let mounts =
            share
            ? [ResolvedMount(mount: .init(source: .bind("/"), destination: "/"), hostPath: "/")] : []
        // An end that is none: nothing is started with it.
        let nothing: NIC.HostEnd =
            hypervisor.traits.nicEnd == .tap ? .tap(SharedDescriptor(try openFile("/dev/null", O_RDWR))) : .interface { _ in }
        let nic =
            try request.network.mode == .bridge
            ? NIC(mac: "0a:00:00:00:00:00", mtu: Int(try roots.network.mtu()), end: nothing) : nil
        let host = Planner.Host(
            kernel: "", modulesDisk: nil, consoleLog: "\(folder)/console.log", disk: "\(folder)/rw", diskIsFresh: true,
            confinement: UserNamespace.isInitial ? Confinement(uidBase: 0) : .rootless, nic: nic)
        let spec = try await Booting(record: record, roots: roots, hypervisor: hypervisor)
            .complete(host, Planner(record), mounts)
        let key = TemplateRecipe.key(try templating.shape(of: spec))
        let recipe = Array(try JSONEncoder().encode(TemplateRecipe(spec, hypervisor: request.machine.hypervisor)))
        try roots.templates.want(key, recipe)
        let isWoken = AwakeTemplates.idle > .zero && templating.waking?.gains(spec) == true
        return (key, isWoken ? recipe : nil)
    }
}
