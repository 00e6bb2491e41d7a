public import LinuxSystem

/// What goes wrong above the machine: in a sandbox, its record, its monitor.
public struct SandboxError: HullError, Sendable {
    public var sentence: String
    public var exitCode: Int32
    public var cause: (any Error)?

    /// `exitCode` is what the command ends with: 125 unless the container's command is at fault (126, 127).
    public init(_ sentence: String, exitCode: Int32 = 125, cause: (any Error)? = nil) {
        self.sentence = sentence
        self.exitCode = exitCode
        self.cause = cause
    }
}
