/// The host's AppArmor (Documentation/admin-guide/LSM/apparmor.rst).
public struct AppArmor: Sendable {
    /// Whether it is there and on.
    public var isEnabled: Bool
    /// The names of the profiles that are loaded; nil where that cannot be seen.
    public var profiles: Set<String>?

    public init(isEnabled: Bool, profiles: Set<String>?) {
        self.isEnabled = isEnabled
        self.profiles = profiles
    }

    /// As it is now.
    public static func ofHost() -> AppArmor {
        guard isOn else { return AppArmor(isEnabled: false, profiles: nil) }
        // securityfs may not be mounted, or may be closed to us.
        let list = try? readText("/sys/kernel/security/apparmor/profiles")
        return AppArmor(isEnabled: true, profiles: list.map(names))
    }

    /// Whether the host has it and has it on.
    public static var isOn: Bool {
        // No such module, no AppArmor.
        (try? readText("/sys/module/apparmor/parameters/enabled"))?.hasPrefix("Y") == true
    }

    /// The names in the kernel's list, whose lines are `NAME (MODE)`.
    static func names(_ list: String) -> Set<String> {
        Set(
            list.split(separator: "\n").map { line in
                guard line.hasSuffix(")"), let mode = line.lastIndex(of: "("), mode > line.startIndex else { return String(line) }
                return String(line[..<line.index(before: mode)])
            })
    }
}
