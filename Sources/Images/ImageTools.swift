public import LinuxSystem

/// The programs that Images starts.
public struct ImageTools: Sendable {
    /// skopeo(1), which moves bits from registries and archives.
    public var skopeo: String
    /// mkfs.erofs(1).
    public var makeErofs: String
    /// Hull's own `hull-unpack`.
    public var unpack: String
    /// The network namespace that skopeo runs in; nil: this process's.
    public var network: SharedDescriptor?
    /// The environment that skopeo gets, `NAME=value` each; TMPDIR is the store's matter.
    public var environment: [String]

    /// Variables that steer skopeo and its network, and are handed on from a person's environment.
    public static let environmentNames: Set<String> = [
        "HOME", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "CONTAINERS_REGISTRIES_CONF",
        "CONTAINERS_POLICY_JSON", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR",
    ]

    /// The standard places; `unpack` is where `Companion` finds it. `environment` is the whole one of the
    /// caller, of which only `environmentNames` are kept.
    public init(environment: [String]) {
        func find(_ name: String) -> String { HostProgram.path(name) ?? "/usr/bin/\(name)" }
        skopeo = find("skopeo")
        makeErofs = find("mkfs.erofs")
        unpack = Companion.path("hull-unpack")
        self.environment = environment.filter { line in
            line.firstIndex(of: "=").map { Self.environmentNames.contains(String(line[..<$0])) } ?? false
        }
    }

    /// Throws a sentence with the remedy when `program` is not there.
    static func require(_ program: String, package: String) throws(ImageError) {
        if !exists(program) {
            throw ImageError(.missingTool, "\(program) is missing: install the package \(package)")
        }
    }
}
