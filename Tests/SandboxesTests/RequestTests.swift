import HostNetwork
import OCISpec
import Testing

@testable import Sandboxes

@Suite struct RequestTests {
    @Test(
        arguments: [
            ("512m", 512 << 20), ("1.5g", 3 << 29), ("64KiB", 64 << 10), ("1024", 1024), ("10b", 10), ("2GB", 2 << 30), ("0", 0),
        ] as [(String, UInt64)])
    func amounts(text: String, bytes: UInt64) { #expect(ByteCount.parse(text) == bytes) }

    @Test(arguments: ["", "m", "1x", "-5m", "1.2.3g", "99999999999999p", "1 m"])
    func noAmounts(text: String) { #expect(ByteCount.parse(text) == nil) }

    @Test func amountsForPeople() {
        #expect(ByteCount.format(0) == "0B")
        #expect(ByteCount.format(999) == "999B")
        #expect(ByteCount.format(1500) == "1.5kB")
        #expect(ByteCount.format(123_456_789) == "123MB")
    }

    @Test func volumes() throws {
        let bind = try MountFlags.volume("/srv/data:/data:ro")
        #expect(bind.source == .bind("/srv/data") && bind.destination == "/data" && bind.readOnly && !bind.copy)
        let named = try MountFlags.volume("pg:/var/lib/postgresql")
        #expect(named.source == .volume(name: "pg", anonymous: false) && named.copy)
        #expect(try MountFlags.volume("/cache").source == .volume(name: "", anonymous: true))
        #expect(try MountFlags.volume("pg:/data:nocopy,noexec").options == ["noexec"])
    }

    @Test(arguments: ["", "a:b:c:d", "name:relative", "/a:/", "/a:/b:wat", "bad name:/x", "/a::ro"])
    func badVolumes(text: String) { #expect(throws: SandboxError.self) { try MountFlags.volume(text) } }

    @Test func mounts() throws {
        let bind = try MountFlags.mount("type=bind,source=/a,destination=/b,readonly")
        #expect(bind.source == .bind("/a") && bind.readOnly && bind.options == ["must-exist"])
        #expect(
            try MountFlags.mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700").source == .tmpfs(size: 1 << 20, mode: 0o700))
        #expect(try MountFlags.mount("src=v,dst=/t").source == .volume(name: "v", anonymous: false))
        #expect(try MountFlags.tmpfs("/run:size=64k,noexec").source == .tmpfs(size: 64 << 10, mode: nil))
    }

    @Test(arguments: [
        "type=bind,dst=/b", "type=bind,src=/a", "type=what,dst=/b", "type=tmpfs,src=/a,dst=/b", "dst=b",
        "type=bind,src=/a,dst=/b,x=y",
    ])
    func badMounts(text: String) { #expect(throws: SandboxError.self) { try MountFlags.mount(text) } }

    @Test func limits() throws {
        #expect(try Limits.parse("nofile=1024:2048") == .init(name: "nofile", soft: 1024, hard: 2048))
        #expect(try Limits.parse("core=-1") == .init(name: "core", soft: .max, hard: .max))
        for text in ["nofile", "nofile=2:1", "what=1", "nofile=a", "nofile=1:2:3"] {
            #expect(throws: SandboxError.self) { try Limits.parse(text) }
        }
    }

    @Test func capabilities() throws {
        #expect(try Capabilities.resolve(add: [], drop: [], privileged: false) == Capabilities.standard)
        #expect(try Capabilities.resolve(add: ["cap_net_admin"], drop: ["ALL"], privileged: false) == ["NET_ADMIN"])
        #expect(try Capabilities.resolve(add: ["ALL"], drop: ["mknod"], privileged: false).contains("MKNOD") == false)
        #expect(try Capabilities.resolve(add: [], drop: [], privileged: true).count == 41)
        #expect(throws: SandboxError.self) { try Capabilities.resolve(add: ["FLY"], drop: [], privileged: false) }
        #expect(Capabilities.mask(["CHOWN", "NET_RAW", "CHECKPOINT_RESTORE"]) == 1 | 1 << 13 | 1 << 40)
    }

    private func image(entrypoint: [String]?, cmd: [String]?, env: [String] = [], volumes: [String] = []) throws -> ImageConfig {
        var execution = ImageConfig.Execution()
        execution.entrypoint = entrypoint
        execution.cmd = cmd
        execution.env = env
        execution.volumes = volumes
        execution.user = "app"
        execution.workingDir = "/srv"
        return ImageConfig(architecture: "amd64", os: "linux", config: execution, diffIDs: [])
    }

    private func record(_ request: RunRequest, _ image: ImageConfig?) throws -> ContainerRecord {
        try request.record(
            id: String(repeating: "a", count: 64), root: .image(reference: "x", id: "y", file: "/z"), image: image, now: 1)
    }

    @Test func commandsAndEntrypoints() throws {
        let both = try image(entrypoint: ["/entry"], cmd: ["serve"])
        var request = RunRequest()
        #expect(try record(request, both).process.arguments == ["/entry", "serve"])
        request.command = ["ls"]
        #expect(try record(request, both).process.arguments == ["/entry", "ls"])
        request.entrypoint = "/other"
        request.command = []
        #expect(try record(request, both).process.arguments == ["/other"])
        request.entrypoint = ""
        #expect(throws: SandboxError.self) { try record(request, both) }
        #expect(throws: SandboxError.self) { try record(RunRequest(), nil) }
    }

    @Test func imageDefaultsAndOverrides() throws {
        var request = RunRequest()
        request.environment = ["A=2", "B=3"]
        let made = try record(request, try image(entrypoint: nil, cmd: ["x"], env: ["A=1", "PATH=/p"], volumes: ["/data"]))
        #expect(made.process.environment == ["PATH=/p", "A=2", "B=3"])
        #expect(made.process.user == "app" && made.process.directory == "/srv")
        #expect(made.mounts.count == 1 && made.mounts[0].destination == "/data")
        request.user = "root"
        request.mounts = [try MountFlags.volume("v:/data/")]
        let other = try record(request, try image(entrypoint: nil, cmd: ["x"], volumes: ["/data"]))
        #expect(other.process.user == "root")
        #expect(other.mounts.count == 1, "a mount of the user's takes the place of the image's volume")
    }

    @Test func whatCannotRunIsRefused() throws {
        let plain = try image(entrypoint: nil, cmd: ["x"])
        func refuses(_ change: (inout RunRequest) throws -> Void) throws {
            var request = RunRequest()
            try change(&request)
            #expect(throws: SandboxError.self) { try record(request, plain) }
        }
        try refuses { $0.resources.memory = 1 << 20 }
        try refuses { $0.resources.cpus = 0 }
        try refuses { $0.name = "-bad" }
        try refuses { $0.hostname = "a b" }
        try refuses { $0.directory = "relative" }
        try refuses { $0.stopSignal = "SIGWHAT" }
        try refuses { $0.securityOptions = ["apparmor=x"] }
        try refuses { $0.mounts = [try MountFlags.volume("/a:/x"), try MountFlags.volume("/b:/x/")] }
        try refuses {
            $0.network.mode = .none
            $0.network.ports = [.init(hostPorts: 1...1, containerPort: 1)]
        }
    }

    @Test func seccompProfileCompiles() throws {
        let standard = try Seccomp.compile(capabilities: Capabilities.standard)
        let all = try Seccomp.compile(capabilities: Capabilities.names)
        #expect(standard.count % 8 == 0 && standard.count > 64 && standard.count < 4096 * 8)
        #expect(all.count < standard.count, "capabilities open calls")
    }
}
