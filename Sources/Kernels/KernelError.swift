public import LinuxSystem

/// What finding or preparing a kernel throws.
public struct KernelError: HullError {
    public var sentence: String
    public var cause: (any Error)?

    public init(_ sentence: String, cause: (any Error)? = nil) {
        self.sentence = sentence
        self.cause = cause
    }
}
