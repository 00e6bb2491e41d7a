import LinuxSystem
import OCISpec

extension BundlePlan {
    /// Profiles that engines give every container, and load themselves.
    private static func isDefault(_ name: String) -> Bool {
        name == "docker-default" || name.hasPrefix("containers-default-") || name == "cri-containerd.apparmor.d"
    }

    /// The AppArmor profile that the machine's VMM runs under: the process's (config.md, "apparmorProfile"). Nil where it names none or the
    /// host has no AppArmor. An engine's default that is not loaded is left out; for another name that is an error.
    func profile(on host: AppArmor) throws -> String? {
        guard let name = spec.process?.apparmorProfile, !name.isEmpty, name != "unconfined", host.isEnabled else { return nil }
        if let loaded = host.profiles, !loaded.contains(name) {
            if Self.isDefault(name) {
                StandardStreams.complain(
                    "hull-runtime: the AppArmor profile \(name) is not loaded, and the machine runs without it")
                return nil
            }
            throw SandboxError(
                "apparmor failed to apply profile: \(name) is not loaded on this host: load it with apparmor_parser", exitCode: 1)
        }
        return name
    }
}
