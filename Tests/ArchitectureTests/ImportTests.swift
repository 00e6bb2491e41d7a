import Testing

/// The arrows between modules point down: docs/how-it-works.md draws them, this is the law.
@Suite struct ImportTests {
    /// What each module may import of ours. A module that is missing here fails the test: put it in its place first.
    static let allowed: [String: Set<String>] = {
        let machine: Set<String> = ["Machines", "LinuxSystem", "CLinux"]
        let sandboxes: Set<String> = [
            "AgentClient", "AgentProtocol", "HostNetwork", "Images", "Kernels", "LinuxSystem", "Machines", "Netlink", "OCISpec",
            "Storage", "CLinux", "CSeccomp",
        ]
        return [
            "CLinux": [], "CArchive": [], "CSeccomp": [], "OCISpec": [], "AgentProtocol": [], "StubdomainProtocol": [],
            "LinuxSystem": ["CLinux"],
            "Netlink": ["LinuxSystem", "CLinux"],
            "AgentClient": ["AgentProtocol", "LinuxSystem", "CLinux"],
            "Machines": ["LinuxSystem"],
            "MachineProcesses": machine,
            "QEMUDriver": machine.union(["MachineProcesses", "CSeccomp"]),
            // The agent's stream goes through memory whose form the guest's program knows too.
            "XenDriver": machine.union(["AgentProtocol", "StubdomainProtocol", "MachineProcesses"]),
            "CloudHypervisorDriver": machine,
            "Kernels": ["StubdomainProtocol", "LinuxSystem", "CLinux"],
            "Images": ["OCISpec", "LinuxSystem", "CLinux"],
            "Storage": ["LinuxSystem", "CLinux"],
            "HostNetwork": ["Netlink", "LinuxSystem", "CLinux"],
            "EngineSetup": [],
            "Sandboxes": sandboxes,
            "hull": sandboxes.union(["Sandboxes", "EngineSetup", "QEMUDriver", "XenDriver", "CloudHypervisorDriver"]),
            "hull-runtime": sandboxes.union(["Sandboxes", "QEMUDriver", "XenDriver", "CloudHypervisorDriver"]),
            "hull-unpack": ["CArchive", "CLinux"],
        ]
    }()

    /// What a module may import of others'. Foundation itself is on no path of the host: its start-up time is felt.
    static let foreign: Set<String> = ["Glibc", "FoundationEssentials", "Synchronization", "SystemPackage"]
    static let foreignOfPrograms: Set<String> = ["ArgumentParser"]

    @Test("Imports point down")
    func importsPointDown() throws {
        let tree = SourceTree()
        var wrong: [String] = []
        for module in try tree.modules() {
            guard let ours = Self.allowed[module] else {
                wrong.append("\(module): not in the table of modules")
                continue
            }
            let others = module.hasPrefix("hull") ? Self.foreign.union(Self.foreignOfPrograms) : Self.foreign
            for file in try tree.files(under: "Sources/\(module)") {
                for name in file.imports where !ours.contains(name) && !others.contains(name) {
                    wrong.append("\(file.path) imports \(name)")
                }
            }
        }
        #expect(wrong.isEmpty, "\(wrong.joined(separator: "\n"))")
    }

    @Test("The table itself has no circle")
    func tableHasNoCircle() {
        var settled: Set<String> = []
        var left = Self.allowed
        while let next = left.first(where: { $0.value.isSubset(of: settled) }) {
            settled.insert(next.key)
            left[next.key] = nil
        }
        #expect(left.isEmpty, "in a circle: \(left.keys.sorted())")
    }

    @Test("Only Drivers.swift of a program names a driver")
    func driversAreNamedOnce() throws {
        let wrong = try SourceTree().files(under: "Sources").filter { file in
            file.imports.contains { $0.hasSuffix("Driver") } && file.name != "Drivers.swift"
        }
        #expect(wrong.isEmpty, "\(wrong.map(\.path))")
    }

    @Test("The guests' programs share protocols and import nothing of the host")
    func guestStandsAlone() throws {
        var wrong: [String] = []
        for (program, allowed) in [
            ("hull-init", ["AgentProtocol", "CGuest"]), ("hull-stub-init", ["AgentProtocol", "StubdomainProtocol", "CGuest"]),
        ] {
            for file in try SourceTree().files(under: "guest/Sources/\(program)") {
                for name in file.imports where !allowed.contains(name) { wrong.append("\(file.path) imports \(name)") }
            }
        }
        #expect(wrong.isEmpty, "\(wrong.joined(separator: "\n"))")
    }
}
