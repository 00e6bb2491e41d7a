import CLinux
import Glibc
import Images
import LinuxSystem
import OCISpec
import Testing

/// A real registry, in a network namespace that nothing else is in.
final class Registry: Sendable {
    static let port = 5000
    let network: SharedDescriptor
    let data: String
    private let process: ChildProcess

    static let missing: String? = {
        if let missing = ImagesTests.missing { return missing }
        for program in ["/usr/bin/docker-registry"] where !exists(program) { return "needs \(program)" }
        return nil
    }()

    private init(network: SharedDescriptor, data: String, process: ChildProcess) {
        self.network = network
        self.data = data
        self.process = process
    }

    /// A network namespace with its loopback up. It lives as long as the descriptor.
    @Loop
    static func isolatedNetwork() async throws -> SharedDescriptor {
        var holder = Spawn("/usr/bin/sleep", ["60"])
        holder.namespaces = Int32(CLONE_NEWNET)
        holder.deathSignal = SIGKILL
        let child = try holder.spawn()
        let network = SharedDescriptor(try openFile("/proc/\(child.pid)/ns/net", O_RDONLY))
        child.signal(SIGKILL)
        _ = try await child.wait()
        let tool = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].first(where: exists) ?? "/usr/sbin/ip"
        try await command(tool, "link", "set", "lo", "up", network: network)
        return network
    }

    @Loop
    static func start(_ scratch: Scratch) async throws -> Registry {
        let network = try await isolatedNetwork()
        let data = "\(scratch.path)/registry"
        try makeDirectories(data)
        let config = """
            version: 0.1
            log: {level: error}
            storage: {filesystem: {rootdirectory: "\(data)"}, delete: {enabled: true}}
            http: {addr: "127.0.0.1:\(port)"}

            """
        try put("\(scratch.path)/registry.yml", Array(config.utf8))
        var server = Spawn("/usr/bin/docker-registry", ["serve", "\(scratch.path)/registry.yml"])
        server.networkNamespace = network
        server.deathSignal = SIGKILL
        let log = SharedDescriptor(try openFile("\(scratch.path)/registry.log", O_WRONLY | O_CREAT))
        server.descriptors = [(log.raw, 1), (log.raw, 2)]
        let process = try server.spawn()
        let registry = Registry(network: network, data: data, process: process)
        for _ in 0..<200 {
            // "0100007F:1388" listens: proc(5), /proc/net/tcp.
            if try readText("/proc/\(process.pid)/net/tcp").contains("0100007F:1388 00000000:0000 0A") { return registry }
            try await sleep(for: .milliseconds(25))
        }
        throw SystemError("start the registry: \(try readText("\(scratch.path)/registry.log"))", code: ETIME)
    }

    @Loop
    func stop() async throws {
        process.signal(SIGKILL)
        _ = try await process.wait()
    }

    /// Pushes a layout's image (all platforms) under `name`.
    func push(_ layout: String, _ name: String, _ options: [String] = ["--all"]) async throws {
        var how = Spawn(
            "/usr/bin/skopeo",
            ["copy", "--quiet", "--dest-tls-verify=false"] + options + [
                "oci:\(layout):latest", "docker://127.0.0.1:\(Self.port)/\(name)",
            ],
            environment: ["PATH=/usr/bin", "HOME=/root", "TMPDIR=/var/tmp"])
        how.networkNamespace = network
        let output = try await how.run()
        if !output.status.isSuccess { throw SystemError("push: \(output.complaint)", code: EIO) }
    }

    func store(_ scratch: Scratch, _ name: String = "store") throws -> ImageStore {
        var store = try scratch.store(name)
        store.tools.network = network
        return store
    }

    static func source(_ name: String) throws -> ImageSource {
        try ImageSource("127.0.0.1:\(port)/\(name)", relativeTo: "/")
    }
}

/// An image with a layer that several may share and one of its own.
func sampleImage(_ own: String, shared: String = "base", bytes: Int = 1000) async throws -> TestImage {
    var base = TarFile()
    base.addFolder("usr/")
    // Not the same everywhere, so that it does not shrink to nothing.
    var state: UInt64 = 0x9e37_79b9_7f4a_7c15
    var text = ""
    while text.utf8.count < bytes {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        text += String(state, radix: 36)
    }
    base.add("usr/\(shared)", .file, text)
    var top = TarFile()
    top.add("own", .file, own)
    var image = TestImage()
    try await image.add(gzip: base.finished)
    try await image.add(gzip: top.finished)
    return image
}
