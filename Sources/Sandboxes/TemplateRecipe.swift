import AgentProtocol
import LinuxSystem
import Machines
import Netlink
import OCISpec

/// All that a template of a machine depends on, as data: the machine's spec without what is a sandbox's own. Whoever has it can make the
/// template, in another process and later.
struct TemplateRecipe: Codable, Hashable, Sendable {
    /// What Hull itself does to a machine before it saves it: a change of that is a change of this number.
    static let preparation = 3

    /// A disk by what the guest can tell of it before it reads it.
    struct DiskShape: Codable, Hashable, Sendable {
        var name: String
        var readOnly: Bool
        /// Bytes.
        var size: UInt64
        /// The file, where every machine has the same.
        var fixedPath: String?
        /// Whether the template may use it: its clones get what it made of it.
        var isFresh: Bool
    }

    var hypervisor: String
    var kind: MachineSpec.Kind
    var accelerator: MachineSpec.Accelerator
    var memoryBytes: UInt64
    var vcpus: Int
    /// What the machine may become.
    var growth: MachineSpec.Growth?
    var kernel: String
    var initramfs: String
    var kernelArguments: [String]
    var disks: [DiskShape]
    /// The MTU of each NIC.
    var mtus: [Int?]
    var shareTag: String?
    /// What its device model runs in. Its files are named by what is in them.
    var stubdomain: MachineSpec.Stubdomain?
    /// Bytes of the guest's memory, in whole MiB.
    var wholeMemory: UInt64 { memoryBytes > UInt64.max - 0xF_FFFF ? memoryBytes : (memoryBytes + 0xF_FFFF) & ~0xF_FFFF }

    /// The recipe of the machine that `spec` describes.
    init(_ spec: MachineSpec, hypervisor: String) throws {
        self.hypervisor = hypervisor
        kind = spec.kind
        accelerator = spec.accelerator
        memoryBytes = spec.memoryBytes
        vcpus = spec.vcpus
        growth = spec.growth
        kernel = spec.kernel
        initramfs = spec.initramfs
        kernelArguments = spec.kernelArguments
        disks = try spec.disks.map {
            DiskShape(
                name: $0.name, readOnly: $0.readOnly, size: try FileIdentity($0.path).size, fixedPath: $0.isFixed ? $0.path : nil,
                isFresh: $0.isFresh)
        }
        mtus = spec.nics.map(\.mtu)
        shareTag = spec.share?.tag
        stubdomain = spec.stubdomain
    }

    /// A machine of this shape, with its own files for the disks, and without share and NICs.
    func spec(id: String, consoleLog: String, confinement: Confinement, file: (DiskShape) -> String) -> MachineSpec {
        var spec = MachineSpec(
            id: id, kind: kind, accelerator: accelerator, memoryBytes: memoryBytes, vcpus: vcpus, kernel: kernel,
            initramfs: initramfs, kernelArguments: kernelArguments,
            disks: disks.map {
                Disk(name: $0.name, path: file($0), readOnly: $0.readOnly, isFixed: $0.fixedPath != nil, isFresh: $0.isFresh)
            },
            consoleLog: consoleLog, confinement: confinement)
        spec.growth = growth
        spec.stubdomain = stubdomain
        return spec
    }

    /// The machine to be saved, with stand-ins in `folder` for what a clone has of its own (the files are made by `standIns`).
    func spec(in folder: String, id: String, nics ends: [NIC.HostEnd], confinement: Confinement) -> MachineSpec {
        var spec = spec(id: id, consoleLog: "\(folder)/console.log", confinement: confinement) {
            $0.fixedPath ?? "\(folder)/disk-\($0.name)"
        }
        spec.share = shareTag.map { Share(tag: $0, entries: []) }
        // No sandbox has these addresses: HostNetwork's begin with 02.
        spec.nics = zip(mtus.indices, mtus).map { index, mtu in
            NIC(mac: Self.mac(index), mtu: mtu, end: ends[index])
        }
        return spec
    }

    private static func mac(_ index: Int) -> String { "0a:00:00:00:00:\(index < 10 ? "0" : "")\(index)" }

    /// With several NICs, some are spares for interfaces that come later: the template has all of them out of sight, and a clone takes those
    /// that it needs.
    var put: [InterfaceConfiguration] {
        guard mtus.count > 1 else { return [] }
        return mtus.indices.map { index in
            var spare = InterfaceConfiguration()
            spare.mac = MACAddress(Self.mac(index))?.bytes ?? []
            spare.spare = NamespaceNetwork.spareName(index)
            return spare
        }
    }

    /// The empty files that the machine to be saved has: name in the folder, and bytes.
    var standIns: [(name: String, size: UInt64)] {
        disks.filter { $0.fixedPath == nil && !$0.isFresh }.map { ("disk-\($0.name)", $0.size) }
    }

    /// The disks that the template uses, and their bytes.
    var freshDisks: [(name: String, size: UInt64)] { disks.filter(\.isFresh).map { ($0.name, $0.size) } }

    /// The machine in a few words.
    var title: String {
        var words = ["\(vcpus) \(vcpus == 1 ? "processor" : "processors")", "\(memoryBytes >> 20) MiB"]
        words.append(disks.map(\.name).joined(separator: "+"))
        if !mtus.isEmpty { words.append(mtus.count == 1 ? "network" : "\(mtus.count) networks") }
        if shareTag != nil { words.append("share") }
        if growth != nil { words.append("grows") }
        return words.joined(separator: ", ")
    }

    /// The key of the template for a machine with these words for its shape.
    static func key(_ shape: [String]) -> String {
        let text = (["preparation \(preparation)"] + shape).joined(separator: "\n")
        return String(SHA256.digest(text.utf8).hex.prefix(32))
    }
}
