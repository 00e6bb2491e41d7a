public import LinuxSystem

/// What went wrong with an image, in one sentence.
public struct ImageError: HullError {
    public enum Code: String, Sendable {
        /// The text names no image.
        case badSource
        /// Not in the store, and the policy forbids asking for it.
        case notHere
        /// The registry or archive has no such image or tag.
        case unknownImage
        /// The registry wants other credentials.
        case unauthorized
        /// The registry cannot be reached.
        case unreachable
        /// What came is not what its digest names.
        case digestMismatch
        /// A manifest, config or archive that cannot be read.
        case invalidImage
        /// A layer that is truncated, damaged or no tar.
        case damagedLayer
        /// A layer that tries what no layer may.
        case hostileLayer
        /// A layer beyond the limits.
        case tooBig
        /// No image for this machine.
        case noPlatform
        case diskFull
        /// A program that Hull needs is missing.
        case missingTool
        /// Used by a container.
        case inUse
        /// An id or prefix that names several.
        case ambiguous
        /// The store is written by a later Hull, or damaged.
        case badStore
        /// Anything else a program or the system said.
        case failed
    }
    public var code: Code
    public var sentence: String
    public var cause: (any Error)?

    public init(_ code: Code, _ sentence: String, cause: (any Error)? = nil) {
        self.code = code
        self.sentence = sentence
        self.cause = cause
    }
}
