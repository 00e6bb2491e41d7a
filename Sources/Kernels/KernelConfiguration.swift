/// Options of a kernel's build, from a `.config` or a part of one: pure. (Documentation/kbuild/kconfig.rst)
struct KernelConfiguration: Sendable, Equatable {
    /// `CONFIG_` is left out of the names. What is switched off is `n`.
    private(set) var options: [String: String] = [:]

    init(_ text: String) {
        for line in text.split(separator: "\n") {
            if line.hasPrefix("CONFIG_"), let equals = line.firstIndex(of: "=") {
                options[String(line[..<equals].dropFirst(7))] = String(line[line.index(after: equals)...])
            } else if line.hasPrefix("# CONFIG_"), line.hasSuffix(" is not set") {
                options[String(line.dropFirst(9).dropLast(11))] = "n"
            }
        }
    }

    /// Whether the option is built in.
    func has(_ option: String) -> Bool { options[option] == "y" }

    /// What `wanted` asks for and this one does not have, sorted: options that the source does not know, or whose needs are not met.
    func missing(of wanted: KernelConfiguration) -> [String] {
        wanted.options.filter { name, value in (options[name] ?? "n") != value }.keys.sorted()
    }

    /// What no machine of Hull's starts a container without. (docs/adr/020)
    static let essential = [
        "64BIT", "PVH", "BLK_DEV_INITRD", "BINFMT_ELF", "VIRTIO_CONSOLE", "VIRTIO_BLK", "VIRTIO_NET", "VIRTIO_FS", "EROFS_FS",
        "EXT4_FS",
        "OVERLAY_FS", "TMPFS", "DEVTMPFS", "PROC_FS", "SYSFS", "UNIX98_PTYS", "PACKET", "SECCOMP_FILTER", "PID_NS", "USER_NS",
        "NET_NS",
        "CGROUPS", "MEMCG", "CGROUP_PIDS", "CFS_BANDWIDTH", "POSIX_MQUEUE",
    ]
    /// The first of the essential options that is not built in.
    var lacking: String? { Self.essential.first { !has($0) } }
}
