public import LinuxSystem

/// What cannot be done with the host's network, and how to mend it.
public struct HostNetworkError: HullError {
    /// For those who treat one failure unlike the others.
    public enum Code: Hashable, Sendable {
        /// A `-p` that nobody can read.
        case badPort
        /// Somebody else has the host's port.
        case portInUse
        /// Every address of the subnet, or every candidate subnet, is taken.
        case noAddress
        /// nftables is missing or refused a rule.
        case firewall
        /// A file of Hull's own is not what it should be.
        case state
        /// The kernel lacks something.
        case unsupported
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
