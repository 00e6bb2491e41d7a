import AgentProtocol
import Foundation
import OCISpec
import Testing

@testable import Sandboxes

/// What real engines wrote (Docker, containerd's ctr and CRI, Podman, rootless Podman), planned, against golden files. HULL_GOLDEN=write
/// writes them anew.
@Suite struct BundlePlanTests {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Engines")

    static func plan(_ name: String) throws -> BundlePlan {
        let bytes = Array(try Data(contentsOf: folder.appendingPathComponent("\(name).config.json")))
        return try BundlePlan(try RuntimeSpec(parsing: bytes), bundle: "/bundle")
    }

    @Test(arguments: [
        "docker-1", "docker-2", "docker-3", "docker-4", "podman-1", "podman-3", "podman-4", "ctr-1", "ctr-2", "ctr-3", "ctr-4",
        "cri-1",
        "rootless-1",
    ])
    func golden(name: String) throws {
        let text = try Self.describe(try Self.plan(name))
        let file = Self.folder.appendingPathComponent("Golden/\(name).txt")
        if ProcessInfo.processInfo.environment["HULL_GOLDEN"] == "write" {
            try text.write(to: file, atomically: true, encoding: .utf8)
        }
        #expect(text == (try String(contentsOf: file, encoding: .utf8)))
    }

    /// The parts of a plan that could be wrong, a line each.
    static func describe(_ plan: BundlePlan) throws -> String {
        let record = plan.record(root: "/run/engine", id: "box", name: "box", now: 0)
        let guest = plan.container(id: record.id)
        var lines = [
            "id \(record.id)", "root \(record.root.displayName) privileged \(record.privileged)", "network \(plan.network)",
            "cgroup \(plan.cgroup(id: "box", systemd: false))", "hostname \(guest.hostname)",
            "memory \(record.resources.memory.map { "\($0)" } ?? "-") cpus \(record.resources.cpus.map { "\($0)" } ?? "-")",
            "limits memory \(guest.limits.memory.map { "\($0)" } ?? "-") pids \(guest.limits.pids.map { "\($0)" } ?? "-") weight \(guest.limits.cpuWeight.map { "\($0)" } ?? "-")",
            "guest root read-only \(guest.root.readOnly) propagation \(guest.rootPropagation)",
        ]
        lines += guest.mounts.map {
            "mount \($0.destination) \($0.kind) \($0.source) flags \(String($0.flags, radix: 16)) propagation \(String($0.propagation, radix: 16)) data \($0.data)"
        }
        lines += record.mounts.map { "share \($0.source) read-only \($0.readOnly)" }
        lines += guest.devices.map { "device \($0.path) \(String($0.mode, radix: 8)) \($0.major):\($0.minor)" }
        lines.append("device rules of \(guest.deviceProgram.count / 8) instructions")
        lines += guest.sysctls.map { "sysctl \($0.name)=\($0.value)" }
        lines += guest.maskedPaths.map { "masked \($0)" } + guest.readOnlyPaths.map { "read-only \($0)" }
        if let settings = plan.spec.process {
            let process = try plan.process(
                settings, container: record.id, number: 1, isExec: false, streams: Streams(), filter: try plan.filter())
            lines += [
                "process \(process.arguments) in \(process.workingDirectory) as \(process.user) \(process.groups) umask \(String(process.umask, radix: 8))",
                "held \(process.held) terminal \(process.terminal) nnp \(process.noNewPrivileges) filter \(!process.seccomp.isEmpty)",
                "capabilities \(String(process.capabilities?.bounding ?? 0, radix: 16)) \(String(process.capabilities?.effective ?? 0, radix: 16)) \(String(process.capabilities?.ambient ?? 0, radix: 16))",
            ]
            lines += process.limits.map { "limit \($0.resource) \($0.soft) \($0.hard)" }
        }
        return lines.map { "\($0)\n" }.joined()
    }

    @Test func processFilesAreRead() throws {
        for name in ["docker-exec", "podman-exec", "ctr-exec", "cri-exec"] {
            let bytes = Array(try Data(contentsOf: Self.folder.appendingPathComponent("\(name).process.json")))
            let process = try ProcessSpec(parsing: bytes)
            #expect(process.args?.isEmpty == false)
        }
    }

    @Test(arguments: ["docker-5", "podman-2", "rootless-2"])
    func hostProcessesAreRefused(name: String) {
        let error = #expect(throws: SandboxError.self) { try Self.plan(name) }
        #expect(error?.sentence.contains("cannot share the host's processes") == true)
    }

    @Test func systemdPaths() throws {
        var spec = try Self.plan("docker-1").spec
        spec.linux?.cgroupsPath = "user-1000.slice:libpod:box"
        let plan = try BundlePlan(spec, bundle: "/bundle")
        #expect(plan.cgroup(id: "box", systemd: true) == "user.slice/user-1000.slice/libpod-box.scope")
        spec.linux?.cgroupsPath = "user.slice:libpod:box"
        #expect(
            try BundlePlan(spec, bundle: "/bundle").cgroup(id: "box", systemd: true, user: 1000)
                == "user.slice/user-1000.slice/user@1000.service/user.slice/libpod-box.scope")
        spec.linux?.cgroupsPath = nil
        #expect(try BundlePlan(spec, bundle: "/bundle").cgroup(id: "box", systemd: false) == "box")
        spec.linux?.cgroupsPath = "/../../etc"
        #expect(try BundlePlan(spec, bundle: "/bundle").cgroup(id: "box", systemd: false) == "etc")
    }

    @Test func limitsFollowRunc() {
        var resources = ResourceLimits()
        var cpu = ResourceLimits.CPU()
        cpu.shares = 1024
        cpu.quota = -1
        resources.cpu = cpu
        resources.pids = .init(limit: -1)
        let limits = BundlePlan.limits(resources)
        #expect(limits.cpuWeight == 39 && limits.cpuQuota == .max && limits.pids == .max && limits.memory == nil)
        cpu.quota = 150_000
        #expect(BundlePlan.cpus(cpu) == 1.5)
        cpu.quota = nil
        cpu.cpus = "0-2,5"
        #expect(BundlePlan.cpus(cpu) == 4)
    }

    @Test func idsOfTwoEnginesDiffer() {
        #expect(EngineOwner.key(root: "/a", id: "x") != EngineOwner.key(root: "/b", id: "x"))
        #expect(EngineOwner.key(root: "/a", id: "x").count == 64)
    }

    @Test func profilesAreCompiled() throws {
        let bytes = Array(
            """
            {"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[
            {"names":["read","write","no_such_call"],"action":"SCMP_ACT_ALLOW"},
            {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}
            """.utf8)
        let profile = try JSONDecoder().decode(SeccompProfile.self, from: Data(bytes))
        let filter = try Seccomp.compile(profile)
        #expect(filter.count % 8 == 0 && filter.count > 64)
        var wrong = profile
        wrong.defaultAction = "SCMP_ACT_SING"
        #expect(throws: SandboxError.self) { try Seccomp.compile(wrong) }
    }

    @Test(arguments: ["", "{", "[]", "{\"ociVersion\":1}", "{\"ociVersion\":\"1.0.2\",\"mounts\":{}}"])
    func brokenConfigurationsAreRefused(text: String) {
        #expect(throws: InvalidDocument.self) { try RuntimeSpec(parsing: Array(text.utf8)) }
    }
}
