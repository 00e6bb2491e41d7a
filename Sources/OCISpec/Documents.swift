import FoundationEssentials

/// Why a document is not what it should be.
public struct InvalidDocument: Error, CustomStringConvertible {
    /// What it should be, e.g. `image manifest`.
    public var kind: String
    public var reason: String
    public var description: String { "invalid \(kind): \(reason)" }
}

/// Manifests and configs are small; a registry that sends more than this sends no manifest (distribution allows 4 MiB).
public let documentLimit = 8 << 20

/// Reads an index or a manifest, of OCI or Docker schema 2, by its fields and its media type where it has one.
public func parseManifest(_ bytes: [UInt8]) throws(InvalidDocument) -> ManifestDocument {
    struct Kind: Decodable {
        var schemaVersion: Int?
        var mediaType: String?
        var manifests: [Ignored]?
        var config: Ignored?
        var layers: [Ignored]?
        struct Ignored: Decodable {}
    }
    let kind = try decode(Kind.self, "image manifest", bytes)
    guard kind.schemaVersion == 2 else {
        throw InvalidDocument(
            kind: "image manifest", reason: "its schemaVersion is \(kind.schemaVersion.map(String.init) ?? "missing"), not 2")
    }
    switch kind.mediaType {
    case nil, MediaType.index, MediaType.dockerList, MediaType.manifest, MediaType.dockerManifest: break
    case let type?: throw InvalidDocument(kind: "image manifest", reason: "its media type is \(type)")
    }
    // A document that is both could be read as two different images (CVE-2021-41190).
    if kind.manifests != nil, kind.config != nil || kind.layers != nil {
        throw InvalidDocument(kind: "image manifest", reason: "it is an index and a manifest at once")
    }
    if kind.manifests != nil {
        guard kind.mediaType != MediaType.manifest, kind.mediaType != MediaType.dockerManifest else {
            throw InvalidDocument(kind: "image manifest", reason: "it calls itself a manifest and is an index")
        }
        return .index(try decode(ImageIndex.self, "image index", bytes))
    }
    guard kind.mediaType != MediaType.index, kind.mediaType != MediaType.dockerList else {
        throw InvalidDocument(kind: "image index", reason: "it has no manifests")
    }
    let manifest = try decode(ImageManifest.self, "image manifest", bytes)
    for descriptor in [manifest.config] + manifest.layers where descriptor.size < 0 {
        throw InvalidDocument(kind: "image manifest", reason: "\(descriptor.digest) has a negative size")
    }
    return .manifest(manifest)
}

/// Reads an image's config.
public func parseImageConfig(_ bytes: [UInt8]) throws(InvalidDocument) -> ImageConfig {
    let config = try decode(ImageConfig.self, "image config", bytes)
    guard config.rootfs.type == "layers" else {
        throw InvalidDocument(kind: "image config", reason: "its rootfs is of type \(config.rootfs.type), not layers")
    }
    return config
}

func decode<T: Decodable>(_ type: T.Type, _ kind: String, _ bytes: [UInt8]) throws(InvalidDocument) -> T {
    guard bytes.count <= documentLimit else {
        throw InvalidDocument(kind: kind, reason: "it has more than \(documentLimit) bytes")
    }
    do {
        return try JSONDecoder().decode(type, from: Data(bytes))
    } catch {
        throw InvalidDocument(kind: kind, reason: explain(error))
    }
}

/// One line of what the decoder found.
private func explain(_ error: any Error) -> String {
    func place(_ context: DecodingError.Context) -> String {
        let path = context.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue }
        return path.isEmpty ? "" : " at \(path.joined(separator: "."))"
    }
    switch error {
    case DecodingError.keyNotFound(let key, let context): return "\(key.stringValue) is missing\(place(context))"
    case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
        return "a value of another type\(place(context))"
    case DecodingError.dataCorrupted(let context) where !context.codingPath.isEmpty:
        return "\(context.debugDescription)\(place(context))"
    default: return "it is no JSON"
    }
}
