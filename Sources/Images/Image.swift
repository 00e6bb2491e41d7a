public import OCISpec

/// An image in the store, ready to run.
public struct Image: Sendable {
    /// The digest of its config, which is what Docker too calls an image's id.
    public let id: Digest
    /// The digest of the manifest it came with.
    public let manifest: Digest
    public let config: ImageConfig
    /// The layers as they were fetched, from the bottom up.
    public let layers: [Descriptor]
    /// The names it is known by (canonical references, or sources like `oci-archive:/path`), sorted.
    public let names: [Name]
    /// The read-only EROFS image of its root, shared by all containers of it.
    public let rootPath: String
    /// Bytes of the root's content, uncompressed.
    public let size: Int64
    /// Bytes of the layers as fetched.
    public let fetchedSize: Int64

    /// A name, and what it led to in its registry.
    public struct Name: Sendable, Hashable {
        /// Canonical.
        public let text: String
        /// As people write it.
        public let familiar: String
        /// The digest that the registry has under this name (of the index where there is one); nil for files.
        public let digest: Digest?
    }
    /// RFC 3339, as the config says.
    public var created: String? { config.created }
}

/// What `remove` did.
public struct RemovedImage: Sendable, Equatable {
    /// Names that are gone, as people write them.
    public var untagged: [String]
    /// The ids of images whose last name went.
    public var deleted: [Digest]
}
