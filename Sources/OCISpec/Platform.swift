/// What an image runs on (image-spec, image-index.md, "platform"): Go's names for systems and architectures.
public struct Platform: Hashable, Codable, Sendable, CustomStringConvertible {
    public var os: String
    public var architecture: String
    /// The CPU's variant, e.g. `v8`.
    public var variant: String?

    public init(os: String = "linux", architecture: String, variant: String? = nil) {
        self.os = os
        self.architecture = architecture
        self.variant = variant
    }

    /// This program's own: its guests run natively or are of the same architecture.
    public static var host: Platform {
        #if arch(x86_64)
            Platform(architecture: "amd64")
        #elseif arch(arm64)
            Platform(architecture: "arm64", variant: "v8")
        #else
            #error("name this architecture as Go does")
        #endif
    }

    public var description: String { "\(os)/\(architecture)" + (variant.map { "/\($0)" } ?? "") }

    /// How well an image for `offer` runs here: nil not at all, else the greater the better.
    func rank(_ offer: Platform) -> Int? {
        guard offer.os == os, offer.architecture == architecture else { return nil }
        // arm64 without a variant is v8; amd64's variants (v2, v3 …) demand instructions that a guest may lack.
        let mine = variant ?? (architecture == "arm64" ? "v8" : nil)
        let theirs = offer.variant ?? (architecture == "arm64" ? "v8" : nil)
        if mine == theirs { return 2 }
        return theirs == nil || (architecture == "amd64" && theirs == "v1") ? 1 : nil
    }
}
