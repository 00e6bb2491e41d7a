import AgentProtocol
import LinuxSystem
import OCISpec

extension BundlePlan {
    /// A mount of config.json: what the guest is told, and what the share must show for it.
    struct PlannedMount {
        var guest: MountConfiguration
        var share: ContainerRecord.Mount?
    }

    /// All of them, in their order. The share's entries are numbered as the record's mounts are.
    var mounts: [PlannedMount] {
        var shares = 0
        var all = spec.mounts ?? []
        // Podman prepares an older host's hierarchy for systemd; the guest has one tree, which is then systemd's.
        let ownsCgroups = all.contains { Self.isCgroups($0.source ?? "", below: true) && !Options($0.options ?? []).isReadOnly }
        all.removeAll { Self.isCgroups($0.source ?? "", below: true) }
        return all.map { mount in
            var planned = Self.plan(mount, label: spec.linux?.mountLabel)
            if planned.share != nil {
                planned.guest.source = "m\(shares)"
                if case .bind(let path) = planned.share?.source { planned.share?.source = .bind(absolute(path)) }
                shares += 1
            }
            if planned.guest.kind == .cgroup2, ownsCgroups { planned.guest.flags &= ~Planner.Flags.readOnly }
            return planned
        }
    }

    /// The IPv4 loopback address of the name server that the container's resolv.conf names first, if it is one.
    var loopbackResolver: String? {
        guard let file = mounts.first(where: { $0.share?.destination == "/etc/resolv.conf" })?.share,
            case .bind(let path) = file.source, let text = try? readText(path)  // a file that cannot be read names nobody
        else { return nil }
        let first = text.split(separator: "\n").first { $0.hasPrefix("nameserver ") }
        guard let address = first?.split(separator: " ").last, address.hasPrefix("127.") else { return nil }
        return String(address)
    }

    private static func plan(_ mount: RuntimeSpec.MountSpec, label: String?) -> PlannedMount {
        let options = Options(mount.options ?? [])
        var guest = MountConfiguration()
        guest.destination = mount.destination
        guest.flags = options.flags
        guest.propagation = options.propagation
        guest.copyUp = options.copyUp
        if mount.type == "bind" || options.isBind {
            if isCgroups(mount.source ?? "", below: false) {
                // `-v /sys/fs/cgroup:/sys/fs/cgroup`: those that processes here can be in are the guest's.
                guest.kind = .cgroup2
                guest.source = "cgroup"
                guest.flags &= ~(bindFlag | recursiveFlag)
                return PlannedMount(guest: guest)
            }
            guest.kind = .share
            guest.flags &= ~bindFlag
            var share = ContainerRecord.Mount(source: .bind(mount.source ?? ""), destination: mount.destination)
            share.readOnly = options.isReadOnly
            share.options = ["must-exist"]
            // MS_SLAVE, MS_SHARED; what the guest mounts reaches the host in neither case.
            if options.propagation & (1 << 19 | 1 << 20) != 0 { share.options.append("rslave") }
            return PlannedMount(guest: guest, share: share)
        }
        if mount.type == "overlay" {
            // The layers are the host's: it is mounted there, and shown.
            guest.kind = .share
            var share = ContainerRecord.Mount(source: .bind(mount.source ?? "overlay"), destination: mount.destination)
            share.readOnly = options.isReadOnly
            share.options = [overlayOption + options.data]
            if let label, !label.isEmpty { share.options.append(labelOption + label) }
            return PlannedMount(guest: guest, share: share)
        }
        guest.source = mount.source ?? mount.type ?? "none"
        guest.data = options.data
        switch mount.type {
        case "proc": guest.kind = .proc
        case "sysfs": guest.kind = .sysfs
        case "devpts": guest.kind = .devpts
        case "mqueue": guest.kind = .mqueue
        case "cgroup", "cgroup2":
            guest.kind = .cgroup2
            guest.data = ""
        case "tmpfs": guest.kind = mount.destination == "/dev" ? .dev : .tmpfs
        default:
            guest.kind = .other
            guest.type = mount.type ?? ""
        }
        return PlannedMount(guest: guest)
    }

    /// Whether a path is the host's tree of cgroups, or a part of it.
    private static func isCgroups(_ path: String, below: Bool) -> Bool {
        let tree = "/sys/fs/cgroup"
        return below ? path.hasPrefix(tree + "/") && path.count > tree.count + 1 : path == tree || path == tree + "/"
    }

    /// How a record's mount says that it is an overlay of folders of the host.
    static let overlayOption = "overlay:"
    /// How it says which SELinux label an overlay's files have, on a host that has SELinux.
    static let labelOption = "label:"
    static let bindFlag: UInt64 = 4096
    static let recursiveFlag: UInt64 = 16384

    /// mount(2)'s propagation flags by the names of the spec.
    static let propagation: [String: UInt64] = [
        "private": 1 << 18, "rprivate": 1 << 18 | recursiveFlag, "slave": 1 << 19, "rslave": 1 << 19 | recursiveFlag,
        "shared": 1 << 20, "rshared": 1 << 20 | recursiveFlag, "unbindable": 1 << 17, "runbindable": 1 << 17 | recursiveFlag,
    ]

    /// config.md, "Linux mount options": flags of mount(2), propagation, and what is the filesystem's own.
    struct Options {
        var flags: UInt64 = 0
        var propagation: UInt64 = 0
        var data = ""
        var copyUp = false
        var isBind = false
        var isReadOnly: Bool { flags & Planner.Flags.readOnly != 0 }

        private static let set: [String: UInt64] = [
            "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "remount": 32, "mand": 64, "dirsync": 128, "noatime": 1024,
            "nodiratime": 2048, "silent": 1 << 15, "relatime": 1 << 21, "iversion": 1 << 23, "strictatime": 1 << 24,
            "lazytime": 1 << 25, "rro": 1, "rnosuid": 2, "rnodev": 4, "rnoexec": 8,
        ]
        private static let clear: [String: UInt64] = [
            "rw": 1, "suid": 2, "dev": 4, "exec": 8, "async": 16, "nomand": 64, "atime": 1024, "diratime": 2048, "loud": 1 << 15,
            "norelatime": 1 << 21, "noiversion": 1 << 23, "nostrictatime": 1 << 24, "nolazytime": 1 << 25,
        ]

        init(_ options: [String]) {
            var rest: [String] = []
            for option in options {
                if let flag = Self.set[option] {
                    flags |= flag
                } else if let flag = Self.clear[option] {
                    flags &= ~flag
                } else if let kind = BundlePlan.propagation[option] {
                    propagation |= kind
                } else if option == "bind" || option == "rbind" {
                    isBind = true
                    if option == "rbind" { flags |= BundlePlan.recursiveFlag }
                } else if option == "tmpcopyup" {
                    copyUp = true
                } else if option != "defaults" {
                    rest.append(option)
                }
            }
            data = rest.joined(separator: ",")
        }
    }
}
