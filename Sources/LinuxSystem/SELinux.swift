import CLinux
import Glibc

/// The host's SELinux (Documentation/admin-guide/LSM/SELinux.rst), and what its policy says of containers.
public struct SELinux: Sendable {
    /// Whether it is on: the kernel has it and shows it. It may be permissive; labels are applied then too.
    public var isEnabled: Bool
    /// The types of containers' processes, which may not do what a VMM does (container_contexts(5): `process`, `init_process`).
    public var containerTypes: Set<String>
    /// The type that the policy has for VMMs of containers (`kvm_process`); nil where it has none.
    public var machineType: String?

    public init(isEnabled: Bool, containerTypes: Set<String> = [], machineType: String? = nil) {
        self.isEnabled = isEnabled
        self.containerTypes = containerTypes
        self.machineType = machineType
    }

    /// As it is now.
    public static func ofHost() -> SELinux {
        guard isOn else { return SELinux(isEnabled: false) }
        // A host without these files has a policy that says nothing of containers: labels are taken as they are.
        let configuration = (try? readText("/etc/selinux/config")) ?? ""
        let policy = Self.value("SELINUXTYPE", configuration) ?? "targeted"
        let contexts = (try? readText("/etc/selinux/\(policy)/contexts/lxc_contexts")) ?? ""  // as above
        return SELinux(contexts: contexts)
    }

    /// Of a host where it is on; `contexts` is the policy's file `lxc_contexts`, `NAME = "LABEL"` a line.
    init(contexts: String) {
        func type(_ name: String) -> String? { Self.value(name, contexts).flatMap(SELinuxLabel.init)?.type }
        self.init(
            isEnabled: true, containerTypes: Set([type("process"), type("init_process")].compactMap(\.self)),
            machineType: type("kvm_process"))
    }

    /// Whether the host has it on: selinuxfs is mounted.
    public static var isOn: Bool { access("\(place)/enforce", F_OK) == 0 }

    /// The label of a VMM for a process that was to have `label`: the policy's type for VMMs instead of one for containers' processes, with
    /// the same user, role and level, as Podman and containerd make it for runtimes of which they know that they have machines.
    public func machineLabel(for label: String) -> String {
        guard var parts = SELinuxLabel(label), let machineType, containerTypes.contains(parts.type) else { return label }
        parts.type = machineType
        return parts.text
    }

    /// Whether the loaded policy has this label. Where nobody may ask, it is said to: the kernel decides when it is used.
    public static func knows(_ label: String) -> Bool {
        // The same: who may not even open it learns it then.
        guard let asking = try? openFile("\(place)/context", O_RDWR) else { return true }
        return write(asking.raw, label, label.utf8.count) >= 0 || errno != EINVAL
    }

    private static let place = "/sys/fs/selinux"

    /// The value of the first `NAME = VALUE` with that name; quotes around it are left out.
    static func value(_ name: String, _ text: String) -> String? {
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let parts = line.split(separator: "=", maxSplits: 1).map { word in
                word.drop { $0.isWhitespace || $0 == "\"" }.reversed().drop { $0.isWhitespace || $0 == "\"" }.reversed()
            }
            if parts.count == 2, String(parts[0]) == name { return String(parts[1]) }
        }
        return nil
    }
}

/// A label of SELinux's: `user:role:type`, and where the policy has levels, `:level`, which may hold further colons.
struct SELinuxLabel: Hashable {
    var user: String
    var role: String
    var type: String
    var level: String?

    init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 3, omittingEmptySubsequences: false).map(String.init)
        guard parts.count >= 3, !parts.contains("") else { return nil }
        (user, role, type) = (parts[0], parts[1], parts[2])
        level = parts.count > 3 ? parts[3] : nil
    }

    var text: String { [user, role, type, level].compactMap(\.self).joined(separator: ":") }
}

/// The labels of a machine's processes, and of the files that are made for them alone.
public struct SELinuxLabels: Hashable, Sendable {
    /// Of the VMM and the share's server.
    public var process: String
    /// Of filesystems that are mounted for them (`context=`, mount(8)); nil where the policy decides.
    public var files: String?

    public init(process: String, files: String? = nil) {
        self.process = process
        self.files = files
    }
}

/// A mount's data with the label that all of its files are to have. A label has commas.
public func mountData(_ data: String, label: String?) -> String {
    guard let label, !label.isEmpty else { return data }
    return (data.isEmpty ? "" : data + ",") + "context=\"\(label)\""
}
