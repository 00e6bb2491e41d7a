/// An image's config (image-spec, config.md; Docker's has the same fields and a health check).
public struct ImageConfig: Codable, Sendable {
    /// When it was made, RFC 3339.
    public var created: String?
    public var author: String?
    public var architecture: String
    public var os: String
    public var variant: String?
    public var config: Execution?
    public var rootfs: RootFS
    public var history: [History]?

    /// What a container of the image runs with. The names are the specification's.
    public struct Execution: Codable, Sendable, Equatable {
        public var user: String?
        public var exposedPorts: [String]
        public var env: [String]
        public var entrypoint: [String]?
        public var cmd: [String]?
        public var volumes: [String]
        public var workingDir: String?
        public var labels: [String: String]
        public var stopSignal: String?
        public var healthcheck: Healthcheck?
        /// Docker's own, for shell forms.
        public var shell: [String]?

        enum CodingKeys: String, CodingKey {
            case user = "User"
            case exposedPorts = "ExposedPorts"
            case env = "Env"
            case entrypoint = "Entrypoint"
            case cmd = "Cmd"
            case volumes = "Volumes"
            case workingDir = "WorkingDir"
            case labels = "Labels"
            case stopSignal = "StopSignal"
            case healthcheck = "Healthcheck"
            case shell = "Shell"
        }
        private struct Nothing: Codable {}

        /// Nothing set.
        public init() {
            exposedPorts = []
            env = []
            volumes = []
            labels = [:]
        }

        public init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            user = try container.decodeIfPresent(String.self, forKey: .user)
            exposedPorts = try container.decodeIfPresent([String: Nothing].self, forKey: .exposedPorts)?.keys.sorted() ?? []
            env = try container.decodeIfPresent([String].self, forKey: .env) ?? []
            entrypoint = try container.decodeIfPresent([String].self, forKey: .entrypoint)
            cmd = try container.decodeIfPresent([String].self, forKey: .cmd)
            volumes = try container.decodeIfPresent([String: Nothing].self, forKey: .volumes)?.keys.sorted() ?? []
            workingDir = try container.decodeIfPresent(String.self, forKey: .workingDir)
            labels = try container.decodeIfPresent([String: String].self, forKey: .labels) ?? [:]
            stopSignal = try container.decodeIfPresent(String.self, forKey: .stopSignal)
            healthcheck = try container.decodeIfPresent(Healthcheck.self, forKey: .healthcheck)
            shell = try container.decodeIfPresent([String].self, forKey: .shell)
        }

        public func encode(to encoder: any Encoder) throws {
            func set(_ names: [String]) -> [String: Nothing]? {
                names.isEmpty ? nil : Dictionary(uniqueKeysWithValues: Set(names).map { ($0, Nothing()) })
            }
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encodeIfPresent(user, forKey: .user)
            try container.encodeIfPresent(set(exposedPorts), forKey: .exposedPorts)
            if !env.isEmpty { try container.encode(env, forKey: .env) }
            try container.encodeIfPresent(entrypoint, forKey: .entrypoint)
            try container.encodeIfPresent(cmd, forKey: .cmd)
            try container.encodeIfPresent(set(volumes), forKey: .volumes)
            try container.encodeIfPresent(workingDir, forKey: .workingDir)
            if !labels.isEmpty { try container.encode(labels, forKey: .labels) }
            try container.encodeIfPresent(stopSignal, forKey: .stopSignal)
            try container.encodeIfPresent(healthcheck, forKey: .healthcheck)
            try container.encodeIfPresent(shell, forKey: .shell)
        }
    }

    /// Docker's HEALTHCHECK; durations are nanoseconds.
    public struct Healthcheck: Codable, Sendable, Equatable {
        public var test: [String]?
        public var interval: Int64?
        public var timeout: Int64?
        public var startPeriod: Int64?
        public var startInterval: Int64?
        public var retries: Int?

        enum CodingKeys: String, CodingKey {
            case test = "Test"
            case interval = "Interval"
            case timeout = "Timeout"
            case startPeriod = "StartPeriod"
            case startInterval = "StartInterval"
            case retries = "Retries"
        }
    }

    /// The layers, uncompressed, from the bottom up.
    public struct RootFS: Codable, Sendable, Equatable {
        public var type: String
        public var diffIDs: [Digest]

        enum CodingKeys: String, CodingKey {
            case type
            case diffIDs = "diff_ids"
        }
        public init(diffIDs: [Digest]) {
            type = "layers"
            self.diffIDs = diffIDs
        }
    }

    public struct History: Codable, Sendable, Equatable {
        public var created: String?
        public var createdBy: String?
        public var author: String?
        public var comment: String?
        public var emptyLayer: Bool?

        enum CodingKeys: String, CodingKey {
            case created, author, comment
            case createdBy = "created_by"
            case emptyLayer = "empty_layer"
        }
    }

    public init(architecture: String, os: String = "linux", config: Execution? = nil, diffIDs: [Digest]) {
        self.architecture = architecture
        self.os = os
        self.config = config
        rootfs = RootFS(diffIDs: diffIDs)
    }

    public var platform: Platform { Platform(os: os, architecture: architecture, variant: variant) }

    /// The name of all layers applied in order (image-spec, config.md, "Layer ChainID"); nil without layers.
    public var chainID: Digest? {
        var chain: Digest?
        for diff in rootfs.diffIDs {
            chain = chain.map { SHA256.digest("\($0) \(diff)".utf8) } ?? diff
        }
        return chain
    }
}
