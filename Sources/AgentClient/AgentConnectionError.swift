public import LinuxSystem

/// Why there is no talking to the agent any more.
public struct AgentConnectionError: HullError, Equatable {
    /// What happened to the stream.
    public enum Reason: Equatable, Sendable {
        /// The guest's end is gone: the machine ended or its agent did.
        case ended
        /// The guest broke the protocol.
        case violation(String)
        /// The host closed it.
        case closed
        /// A system call failed on the host.
        case failed(String)
    }

    /// What happened.
    public var reason: Reason

    public var sentence: String {
        switch reason {
        case .ended: "the stream to the agent in the guest ended: the machine stopped, or its agent did"
        case .violation(let what): "the agent in the guest broke its protocol (\(what)); the sandbox must be ended"
        case .closed: "the stream to the agent in the guest was closed"
        case .failed(let what): "the stream to the agent in the guest failed: \(what)"
        }
    }
}
