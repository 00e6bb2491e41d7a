import Glibc
public import LinuxSystem

/// What went wrong with a disk or a volume, in one sentence.
public struct StorageError: HullError {
    public enum Code: String, Sendable {
        case badName, notHere, inUse, tooSmall, missingTool, diskFull, damaged, failed
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
