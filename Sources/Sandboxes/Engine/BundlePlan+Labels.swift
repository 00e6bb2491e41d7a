import LinuxSystem
import OCISpec

extension BundlePlan {
    /// What SELinux knows the machine's processes and their files as (config.md, "selinuxLabel"; config-linux.md, "mountLabel"). Nil where the
    /// process names no label or the host has no SELinux. `knows` says whether the host's policy has a label; one that it has not is an error.
    func labels(on host: SELinux, knows: (String) -> Bool) throws -> SELinuxLabels? {
        guard host.isEnabled, let asked = spec.process?.selinuxLabel, !asked.isEmpty else { return nil }
        let files = spec.linux?.mountLabel.flatMap { $0.isEmpty ? nil : $0 }
        let machines = host.machineLabel(for: asked)
        let label = knows(machines) ? machines : asked
        for (label, field) in [(label, "process.selinuxLabel"), (files ?? label, "linux.mountLabel")] where !knows(label) {
            throw SandboxError(
                "the SELinux label \(label) cannot be given to the machine: the policy of this host does not know it; name another one (\(field) in config.json)",
                exitCode: 1)
        }
        return SELinuxLabels(process: label, files: files)
    }
}
