import AgentProtocol
import LinuxSystem
import OCISpec
import Testing

@testable import Sandboxes

/// What engines ask for now and then: user namespaces, scheduling, limits beyond all measure.
@Suite struct BundleFeatureTests {
    private static func plan(namespaces: String = "", linux: String = "", process: String = "", mounts: String = "") throws
        -> BundlePlan
    {
        let text = """
            {"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"args":["true"]\(process)},
             "mounts":[{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["mode=0620","gid=5"]}\(mounts)],
             "linux":{"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"mount"},{"type":"network"}\(namespaces)]\(linux)}}
            """
        return try BundlePlan(try RuntimeSpec(parsing: Array(text.utf8)), bundle: "/bundle")
    }

    private static func process(_ plan: BundlePlan) throws -> ProcessConfiguration {
        let settings = try #require(plan.spec.process)
        return try plan.process(settings, container: "x", number: 1, isExec: false, streams: Streams(), filter: try plan.filter())
    }

    private static let mappings = """
        ,"uidMappings":[{"containerID":0,"hostID":100000,"size":10},{"containerID":10,"hostID":5,"size":1}],
        "gidMappings":[{"containerID":0,"hostID":200000,"size":100}],
        "devices":[{"type":"c","path":"/dev/x","major":1,"minor":3,"uid":10,"gid":7}]
        """

    @Test func userNamespacesMapWhatIsMade() throws {
        #expect(throws: SandboxError.self, "without mappings") { try Self.plan(namespaces: ",{\"type\":\"user\"}") }
        let made = try Self.plan(namespaces: ",{\"type\":\"user\"}", linux: Self.mappings).container(id: "x")
        #expect(made.userIDs == [IDRange(inside: 0, outside: 100_000, count: 10), IDRange(inside: 10, outside: 5, count: 1)])
        #expect(made.groupIDs.outside(99) == 200_099 && made.groupIDs.outside(100) == nil)
        #expect(made.devices.map(\.uid) == [5] && made.devices.map(\.gid) == [200_007])
        #expect(made.mounts.map(\.data) == ["mode=0620,gid=200005"])
        #expect(try Self.plan(linux: Self.mappings).container(id: "x").userIDs.isEmpty)
        #expect([IDRange(inside: 0, outside: .max, count: 5)].outside(1) == nil)
    }

    /// The VMM gets the profile; an engine's own never fails a container, and one that somebody asked for is not left out in silence.
    @Test func profilesAreTheMachines() throws {
        let host = AppArmor(isEnabled: true, profiles: ["docker-default", "mine"])
        func profile(_ name: String, on host: AppArmor) throws -> String? {
            try Self.plan(process: ",\"apparmorProfile\":\"\(name)\"").profile(on: host)
        }
        #expect(try profile("docker-default", on: host) == "docker-default" && profile("mine", on: host) == "mine")
        #expect(try profile("unconfined", on: host) == nil && profile("", on: host) == nil)
        #expect(try Self.plan().profile(on: host) == nil)
        #expect(try profile("mine", on: AppArmor(isEnabled: false, profiles: nil)) == nil)
        for name in ["containers-default-0.50.1", "cri-containerd.apparmor.d"] { #expect(try profile(name, on: host) == nil) }
        #expect(throws: SandboxError.self) { try profile("other", on: host) }
        // Nobody may read the list: the kernel decides.
        #expect(try profile("other", on: AppArmor(isEnabled: true, profiles: nil)) == "other")
    }

    /// The machine gets the label; the type of a container's process becomes that of a VMM where the policy has one.
    @Test func labelsAreTheMachines() throws {
        let host = SELinux(isEnabled: true, containerTypes: ["container_t"], machineType: "container_kvm_t")
        func labels(_ label: String, mounts: String? = nil, on host: SELinux, unknown: String = "none") throws -> SELinuxLabels? {
            try Self.plan(linux: mounts.map { ",\"mountLabel\":\"\($0)\"" } ?? "", process: ",\"selinuxLabel\":\"\(label)\"")
                .labels(on: host) { !$0.contains(unknown) }
        }
        let asked = "u:r:container_t:s0:c1,c2"
        let made = "u:r:container_kvm_t:s0:c1,c2"
        #expect(try labels(asked, mounts: "u:r:file_t:s0", on: host) == SELinuxLabels(process: made, files: "u:r:file_t:s0"))
        #expect(try labels(asked, mounts: "", on: host) == SELinuxLabels(process: made))
        #expect(try labels(asked, on: host, unknown: "_kvm_") == SELinuxLabels(process: asked), "a type that is not loaded")
        #expect(try labels("", on: host) == nil && Self.plan().labels(on: host) { _ in true } == nil)
        #expect(try labels("u:r:other_t", on: SELinux(isEnabled: false), unknown: "other_t") == nil)
        #expect(throws: SandboxError.self) { try labels("u:r:other_t", on: host, unknown: "other_t") }
        #expect(throws: SandboxError.self) { try labels(asked, mounts: "u:r:file_t", on: host, unknown: "file_t") }
    }

    /// What is bound of the host's cgroups is the guest's tree, and Podman's preparations for systemd make that writable.
    @Test func cgroupsAreTheGuests() throws {
        let own =
            ",{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\",\"source\":\"cgroup\",\"options\":[\"ro\",\"nosuid\"]}"
        func bound(_ part: String, _ option: String) -> String {
            ",{\"destination\":\"/sys/fs/cgroup\(part)\",\"type\":\"bind\",\"source\":\"/sys/fs/cgroup\(part)\",\"options\":[\"rbind\",\"\(option)\"]}"
        }
        func flags(_ mounts: String) throws -> [UInt64] {
            let plan = try Self.plan(mounts: mounts)
            #expect(plan.mounts.allSatisfy { $0.share == nil })
            return plan.mounts.filter { $0.guest.kind == .cgroup2 }.map(\.guest.flags)
        }
        #expect(try flags(own) == [3])
        #expect(try flags(own + bound("/systemd", "rw")) == [2])
        #expect(try flags(own + bound("/systemd", "ro")) == [3])
        #expect(try flags(bound("", "rw")) == [0] && flags(bound("", "ro")) == [1])
    }

    @Test func schedulingBecomesNumbers() throws {
        let made = try Self.process(
            try Self.plan(
                linux: ",\"personality\":{\"domain\":\"LINUX32\"}",
                process: """
                    ,"scheduler":{"policy":"SCHED_FIFO","priority":9,"flags":["SCHED_FLAG_RESET_ON_FORK"]},
                    "ioPriority":{"class":"IOPRIO_CLASS_BE","priority":6}
                    """))
        #expect(made.scheduler?.policy == 1 && made.scheduler?.priority == 9 && made.scheduler?.flags == 1)
        #expect(made.ioPriority == 2 << 13 | 6 && made.personality == 8)
        for wrong in [
            "\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":8}", "\"scheduler\":{\"policy\":\"SCHED_NEVER\"}",
        ] {
            #expect(throws: SandboxError.self) { try Self.process(try Self.plan(process: ",\(wrong)")) }
        }
    }

    @Test func limitsBeyondMeasureAreNone() throws {
        let plan = try Self.plan(
            linux:
                ",\"resources\":{\"memory\":{\"limit\":9223372036854775807},\"cpu\":{\"quota\":9223372036854775807,\"period\":1}}"
        )
        let record = plan.record(root: "/r", id: "x", name: "x", now: 0)
        #expect(record.resources.memory == nil && Planner(record).processors == 255)
        let sets: [(String, Double?)] = [
            ("0-9223372036854775807", 1), ("9-1", nil), ("0-4294967295", 1024), (",,,", nil), ("3", 1),
        ]
        for (set, count) in sets {
            var cpu = ResourceLimits.CPU()
            cpu.cpus = set
            #expect(BundlePlan.cpus(cpu) == count, "\(set)")
        }
    }
}
