/// The media types Hull reads: OCI's and Docker's schema 2 (distribution, manifest-v2-2.md), which have the same fields.
public enum MediaType {
    public static let index = "application/vnd.oci.image.index.v1+json"
    public static let manifest = "application/vnd.oci.image.manifest.v1+json"
    public static let config = "application/vnd.oci.image.config.v1+json"
    public static let dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"
    public static let dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
    public static let dockerConfig = "application/vnd.docker.container.image.v1+json"

    /// Whether `type` is a layer that can be unpacked: a tar, plain or compressed with gzip or zstd.
    public static func isLayer(_ type: String) -> Bool {
        switch type {
        case "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":
            true
        default: false
        }
    }
}

/// What points at a content (image-spec, descriptor.md).
public struct Descriptor: Codable, Hashable, Sendable {
    public var mediaType: String
    public var digest: Digest
    /// Bytes.
    public var size: Int64
    public var platform: Platform?
    public var annotations: [String: String]?

    public init(
        mediaType: String, digest: Digest, size: Int64, platform: Platform? = nil,
        annotations: [String: String]? = nil
    ) {
        self.mediaType = mediaType
        self.digest = digest
        self.size = size
        self.platform = platform
        self.annotations = annotations
    }
}

/// An image for several platforms: OCI's index and Docker's manifest list.
public struct ImageIndex: Codable, Sendable {
    public var schemaVersion: Int
    public var mediaType: String?
    public var manifests: [Descriptor]
    public var annotations: [String: String]?

    public init(manifests: [Descriptor], mediaType: String? = MediaType.index) {
        schemaVersion = 2
        self.mediaType = mediaType
        self.manifests = manifests
    }

    /// The manifest that suits `platform` best, the first of equals; nil when none does. Attestations and the like, whose
    /// platform is `unknown/unknown`, suit nobody.
    public func choose(_ platform: Platform) -> Descriptor? {
        var best: (descriptor: Descriptor, rank: Int)?
        for descriptor in manifests {
            guard let offer = descriptor.platform, let rank = platform.rank(offer) else { continue }
            if best.map({ rank > $0.rank }) ?? true { best = (descriptor, rank) }
        }
        return best?.descriptor
    }

    /// What it has, for an error's sentence.
    public var platforms: [Platform] {
        manifests.compactMap(\.platform).filter { $0.os != "unknown" }
    }
}

/// One image: its config and layers (image-spec, manifest.md).
public struct ImageManifest: Codable, Sendable {
    public var schemaVersion: Int
    public var mediaType: String?
    public var config: Descriptor
    public var layers: [Descriptor]
    public var annotations: [String: String]?

    public init(config: Descriptor, layers: [Descriptor], mediaType: String? = MediaType.manifest) {
        schemaVersion = 2
        self.mediaType = mediaType
        self.config = config
        self.layers = layers
    }
}

/// Either of the two documents a reference can lead to.
public enum ManifestDocument: Sendable {
    case index(ImageIndex)
    case manifest(ImageManifest)
}
