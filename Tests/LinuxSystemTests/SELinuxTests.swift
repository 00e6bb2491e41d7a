import Testing

@testable import LinuxSystem

@Suite struct SELinuxTests {
    private static let fedora = """
        # what containers get
        process = "system_u:system_r:container_t:s0"
        content = "system_u:object_r:virt_var_lib_t:s0"
        file = "system_u:object_r:container_file_t:s0"
        init_process = "system_u:system_r:container_init_t:s0"
        kvm_process = "system_u:system_r:container_kvm_t:s0"
        """

    @Test("A container's type becomes that of VMMs, with the same user, role and level") func machineTypes() {
        let host = SELinux(contexts: Self.fedora)
        #expect(host.isEnabled && host.containerTypes == ["container_t", "container_init_t"])
        #expect(host.machineLabel(for: "system_u:system_r:container_t:s0:c1,c2") == "system_u:system_r:container_kvm_t:s0:c1,c2")
        #expect(host.machineLabel(for: "staff_u:staff_r:container_init_t:s0-s0:c7") == "staff_u:staff_r:container_kvm_t:s0-s0:c7")
        // What somebody chose is taken as it is, and what makes no sense is left to the kernel.
        for label in ["system_u:system_r:container_kvm_t:s0", "u:r:mine_t", "u:r:spc_t:s0", "nonsense", "a:b:", ""] {
            #expect(host.machineLabel(for: label) == label)
        }
    }

    @Test("A policy that has no type for VMMs, or says nothing of containers") func otherPolicies() {
        let debian = SELinux(
            contexts: "process = \"system_u:system_r:container_t:s0\"\nsandbox_lxc_process = \"u:r:container_t:s0\"\n")
        let label = "system_u:system_r:container_t:s0:c1,c2"
        #expect(debian.machineType == nil && debian.machineLabel(for: label) == label)
        #expect(SELinux(contexts: "").machineLabel(for: label) == label)
        #expect(SELinux(contexts: "kvm_process = \"u:r:k_t\"").machineLabel(for: label) == label)
    }

    @Test func settings() {
        let text = "# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE = targeted \nSELINUXTYPE=late\n"
        #expect(SELinux.value("SELINUXTYPE", text) == "targeted" && SELinux.value("SELINUX", text) == "enforcing")
        #expect(SELinux.value("OTHER", text) == nil)
    }

    @Test("A label has commas, and so it is quoted") func mountsData() {
        #expect(mountData("mode=0755", label: "u:r:t:s0:c1,c2") == "mode=0755,context=\"u:r:t:s0:c1,c2\"")
        #expect(mountData("", label: "u:r:t") == "context=\"u:r:t\"")
        #expect(mountData("size=1k", label: nil) == "size=1k" && mountData("size=1k", label: "") == "size=1k")
    }

    @Test("A label that the host's kernel refuses, as one without SELinux refuses all, says so") func refused() {
        var how = Spawn("/bin/true")
        how.label = "nobodys_u:nobodys_r:nobodys_t:s0"
        let failure = #expect(throws: SystemError.self) { try how.spawn() }
        #expect(failure?.operation == "start /bin/true (take its SELinux label nobodys_u:nobodys_r:nobodys_t:s0)")
    }
}
