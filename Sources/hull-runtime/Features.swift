import LinuxSystem
import Sandboxes

/// What `features` says (runtime-spec, features.md): what this runtime really does.
enum Features {
    static var document: String {
        let capabilities = Capabilities.names.map { "\"CAP_\($0)\"" }.joined(separator: ",")
        func list(_ names: [String]) -> String { "[" + names.map { "\"\($0)\"" }.joined(separator: ",") + "]" }
        let options = list([
            "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "lazytime", "loud", "mand", "noatime",
            "nodev",
            "nodiratime", "noexec", "norelatime", "nostrictatime", "nosuid", "private", "rbind", "relatime", "ro", "rprivate",
            "rshared",
            "rslave", "runbindable", "rw", "shared", "silent", "slave", "strictatime", "suid", "sync", "tmpcopyup", "unbindable",
        ])
        let operators = list([
            "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
        ])
        let actions = list([
            "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
            "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
        ])
        return """
            {"ociVersionMin":"1.0.0","ociVersionMax":"1.0.2-dev",\
            "hooks":["prestart","createRuntime","createContainer","startContainer","poststart","poststop"],\
            "mountOptions":\(options),\
            "linux":{"namespaces":["cgroup","ipc","mount","network","pid","user","uts"],"capabilities":[\(capabilities)],\
            "cgroup":{"v1":true,"v2":true,"systemd":true,"systemdUser":true},\
            "seccomp":{"enabled":true,"actions":\(actions),"operators":\(operators),\
            "archs":["SCMP_ARCH_X86","SCMP_ARCH_X86_64","SCMP_ARCH_X32"]},\
            "apparmor":{"enabled":\(AppArmor.isOn)},"selinux":{"enabled":\(SELinux.isOn)}},\
            "annotations":{"run.hull.version":"\(Version.text)"}}
            """
    }
}
