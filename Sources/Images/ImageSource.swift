public import OCISpec

/// Where an image comes from: a registry, or one of containers-transports(5)' places.
public enum ImageSource: Hashable, Sendable, CustomStringConvertible {
    case registry(Reference)
    /// An OCI layout in a folder; without a tag it must hold one image.
    case ociLayout(directory: String, tag: String?)
    /// An OCI layout in a tar file.
    case ociArchive(file: String, tag: String?)
    /// What `docker save` writes.
    case dockerArchive(file: String, reference: String?)
    /// A plain folder; it is no image and the store does not know it.
    case rootfs(directory: String)

    /// Reads what a person wrote as IMAGE. Relative paths are made absolute with `directory`.
    public init(_ text: String, relativeTo directory: String) throws(ImageError) {
        func absolute(_ path: Substring) throws(ImageError) -> String {
            if path.isEmpty { throw ImageError(.badSource, "\"\(text)\" names no path") }
            return path.hasPrefix("/") ? String(path) : "\(directory)/\(path)"
        }
        /// `path[:tag]`: a path's own colon is none of a tag's business, so the tag is what follows the last one.
        func parted(_ rest: Substring) throws(ImageError) -> (String, String?) {
            let start = rest.lastIndex(of: "/") ?? rest.startIndex
            guard let colon = rest[start...].firstIndex(of: ":") else { return (try absolute(rest), nil) }
            let tag = String(rest[rest.index(after: colon)...])
            return (try absolute(rest[..<colon]), tag.isEmpty ? nil : tag)
        }
        guard let colon = text.firstIndex(of: ":") else {
            self = .registry(try Self.reference(text))
            return
        }
        let rest = text[text.index(after: colon)...]
        switch text[..<colon] {
        case "oci":
            let (path, tag) = try parted(rest)
            self = .ociLayout(directory: path, tag: tag)
        case "oci-archive":
            let (path, tag) = try parted(rest)
            self = .ociArchive(file: path, tag: tag)
        case "docker-archive":
            // FILE[:REFERENCE]; the reference has colons and slashes of its own.
            guard let end = rest.firstIndex(of: ":") else {
                self = .dockerArchive(file: try absolute(rest), reference: nil)
                return
            }
            self = .dockerArchive(
                file: try absolute(rest[..<end]), reference: String(rest[rest.index(after: end)...]))
        case "rootfs": self = .rootfs(directory: try absolute(rest))
        case "docker" where rest.hasPrefix("//"):
            self = .registry(try Self.reference(String(rest.dropFirst(2))))
        default: self = .registry(try Self.reference(text))
        }
    }

    private static func reference(_ text: String) throws(ImageError) -> Reference {
        do { return try Reference(text) } catch { throw ImageError(.badSource, "\(error)") }
    }

    /// The whole name, which is also the one the store remembers the image by.
    public var description: String {
        switch self {
        case .registry(let reference): reference.description
        case .ociLayout(let directory, let tag): "oci:\(directory)" + (tag.map { ":\($0)" } ?? "")
        case .ociArchive(let file, let tag): "oci-archive:\(file)" + (tag.map { ":\($0)" } ?? "")
        case .dockerArchive(let file, let reference):
            "docker-archive:\(file)" + (reference.map { ":\($0)" } ?? "")
        case .rootfs(let directory): "rootfs:\(directory)"
        }
    }

    /// As a person writes it.
    public var familiar: String {
        if case .registry(let reference) = self { return reference.familiar }
        return description
    }
}

/// When a registry is asked, as `docker run --pull` means it.
public enum PullPolicy: String, Sendable, CaseIterable {
    case always, missing, never
}
