public import OCISpec

/// What a pull tells while it goes on. `hull` draws it as bars or prints it as lines.
public enum PullEvent: Sendable, Equatable {
    /// The image has to be fetched; these are its layers, with their sizes.
    case pulling(name: String, layers: [Layer])
    /// A layer's phase began or went on.
    case layer(Digest, Phase, bytes: Int64, total: Int64)
    /// Bytes of all missing layers together, while the fetch goes on.
    case fetched(bytes: Int64, total: Int64)
    /// The root image is being built from the unpacked layers.
    case building
    /// Something was left out, e.g. a device node: one sentence.
    case note(String)
    /// Done: the image's id; `fresh` when anything was fetched or built.
    case done(id: Digest, manifest: Digest, fresh: Bool)

    public struct Layer: Sendable, Equatable {
        public var digest: Digest
        public var size: Int64
        /// It is in the store already.
        public var isHere: Bool
    }
    public enum Phase: String, Sendable { case waiting, fetched, verified, unpacking, unpacked }
}

/// Called on the loop with each event.
public typealias PullProgress = @Sendable (PullEvent) -> Void
