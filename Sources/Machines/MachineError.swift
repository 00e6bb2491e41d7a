public import LinuxSystem

/// What a driver throws.
public struct MachineError: HullError {
    public enum Code: String, Sendable {
        /// A program, a device or a kernel feature is missing; the sentence names the remedy.
        case missing
        /// The accelerator that was asked for does not work here.
        case acceleratorUnusable
        /// The driver cannot honour a part of the spec; nothing was started.
        case unsupported
        /// The VMM or a helper could not be started, or ended while starting.
        case startFailed
        /// The VMM answered with an error, or with what its protocol does not allow.
        case refused
        /// The machine has ended already.
        case ended
        /// The guest's kernel panicked.
        case panicked
    }

    public var code: Code
    public var sentence: String
    public var cause: (any Error)?
    /// The last lines of the guest's console, and of the VMM's standard error; empty when there are none.
    public var consoleTail: String

    public init(
        _ code: Code, _ sentence: String, cause: (any Error)? = nil, consoleTail: String = ""
    ) {
        self.code = code
        self.sentence = sentence
        self.cause = cause
        self.consoleTail = consoleTail
    }

    /// The sentence, those of its causes, and the last of the guest's console where there is one.
    public var description: String {
        let text = cause.map { "\(sentence): \($0)" } ?? sentence
        return consoleTail.isEmpty ? text : "\(text)\nthe last of the guest's console:\n\(consoleTail)"
    }
}
