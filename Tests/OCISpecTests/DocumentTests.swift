import OCISpec
import Testing

@Suite("Manifests and configs")
struct DocumentTests {
    private static let hex = String(repeating: "0", count: 64)
    private static let descriptor = #"{"mediaType":"t","digest":"sha256:\#(hex)","size":3}"#

    @Test("OCI's and Docker's manifests and indexes are told apart")
    func kinds() throws {
        for type in [#""mediaType":"\#(MediaType.manifest)","#, #""mediaType":"\#(MediaType.dockerManifest)","#, ""] {
            let text =
                #"{"schemaVersion":2,\#(type)"config":\#(Self.descriptor),"layers":[\#(Self.descriptor)],"unknown":{"a":[1]}}"#
            guard case .manifest(let manifest) = try parseManifest(Array(text.utf8)) else {
                Issue.record("no manifest: \(text)")
                continue
            }
            #expect(manifest.layers.count == 1 && manifest.config.size == 3)
        }
        for type in [#""mediaType":"\#(MediaType.index)","#, #""mediaType":"\#(MediaType.dockerList)","#, ""] {
            let text = #"{"schemaVersion":2,\#(type)"manifests":[\#(Self.descriptor)]}"#
            guard case .index(let index) = try parseManifest(Array(text.utf8)) else {
                Issue.record("no index: \(text)")
                continue
            }
            #expect(index.manifests.count == 1)
        }
    }

    @Test(
        "what is neither is refused",
        arguments: [
            "", "{", "[]", "null", "{}", #"{"schemaVersion":1,"layers":[],"config":{}}"#, #"{"schemaVersion":2}"#,
            #"{"schemaVersion":2,"config":\#(descriptor)}"#,
            #"{"schemaVersion":2,"manifests":[],"layers":[],"config":\#(descriptor)}"#,
            #"{"schemaVersion":2,"mediaType":"\#(MediaType.index)","config":\#(descriptor),"layers":[]}"#,
            #"{"schemaVersion":2,"mediaType":"\#(MediaType.manifest)","manifests":[]}"#,
            #"{"schemaVersion":2,"mediaType":"text/html","manifests":[]}"#,
            #"{"schemaVersion":2,"config":{"mediaType":"t","digest":"sha256:../../x","size":3},"layers":[]}"#,
            #"{"schemaVersion":2,"config":{"mediaType":"t","digest":"sha256:\#(hex)","size":-3},"layers":[]}"#,
            #"{"schemaVersion":2,"config":{"mediaType":"t","digest":"sha256:\#(hex)","size":"3"},"layers":[]}"#,
            #"{"schemaVersion":2,"config":{"mediaType":"t","digest":"sha256:\#(hex)","size":99999999999999999999},"layers":[]}"#,
            String(repeating: "[", count: 100_000),
        ])
    func bad(text: String) {
        #expect(throws: InvalidDocument.self) { try parseManifest(Array(text.utf8)) }
    }

    @Test("a config keeps what a container needs")
    func config() throws {
        let text = """
            {"architecture":"amd64","os":"linux","created":"2024-01-02T03:04:05Z","docker_version":"x",
             "config":{"User":"app:web","Env":["A=b"],"Entrypoint":["/e"],"Cmd":null,"WorkingDir":"/w","StopSignal":"SIGQUIT",
              "ExposedPorts":{"80/tcp":{},"53/udp":{}},"Volumes":{"/data":{}},"Labels":{"k":"v"},"Hostname":"",
              "Healthcheck":{"Test":["CMD","true"],"Interval":30000000000,"Retries":3}},
             "rootfs":{"type":"layers","diff_ids":["sha256:\(Self.hex)","sha256:\(Self.hex)"]},
             "history":[{"created_by":"x","empty_layer":true}]}
            """
        let config = try parseImageConfig(Array(text.utf8))
        let execution = try #require(config.config)
        #expect(execution.user == "app:web" && execution.env == ["A=b"] && execution.entrypoint == ["/e"] && execution.cmd == nil)
        #expect(
            execution.exposedPorts == ["53/udp", "80/tcp"] && execution.volumes == ["/data"] && execution.labels == ["k": "v"])
        #expect(
            execution.stopSignal == "SIGQUIT" && execution.workingDir == "/w" && execution.healthcheck?.interval == 30_000_000_000
        )
        #expect(config.chainID?.hex == SHA256.digest("sha256:\(Self.hex) sha256:\(Self.hex)".utf8).hex)
        #expect(config.history?.first?.emptyLayer == true)
    }

    @Test(
        "a config without layers' digests is refused",
        arguments: [
            "{}", #"{"architecture":"amd64","os":"linux"}"#,
            #"{"architecture":"amd64","os":"linux","rootfs":{"type":"zip","diff_ids":[]}}"#,
            #"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}"#,
            #"{"architecture":1,"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
        ])
    func badConfig(text: String) {
        #expect(throws: InvalidDocument.self) { try parseImageConfig(Array(text.utf8)) }
    }

    @Test("the best image for a platform is chosen")
    func platforms() {
        func entry(_ architecture: String, _ variant: String? = nil, os: String = "linux", size: Int64) -> Descriptor {
            Descriptor(
                mediaType: MediaType.manifest, digest: SHA256.digest([]), size: size,
                platform: Platform(os: os, architecture: architecture, variant: variant))
        }
        let index = ImageIndex(manifests: [
            entry("unknown", os: "unknown", size: 0), entry("amd64", os: "windows", size: 1), entry("amd64", "v3", size: 2),
            entry("amd64", size: 3), entry("amd64", size: 4), entry("arm", "v7", size: 5), entry("arm64", "v8", size: 6),
        ])
        #expect(index.choose(Platform(architecture: "amd64"))?.size == 3)
        #expect(index.choose(Platform(architecture: "arm64"))?.size == 6)
        #expect(index.choose(Platform(architecture: "arm64", variant: "v8"))?.size == 6)
        #expect(index.choose(Platform(architecture: "riscv64")) == nil)
        #expect(index.platforms.count == 6)
    }
}
