/// Why bytes from the other end could not be understood.
///
/// Both ends treat the other as hostile: the host ends the sandbox, the agent drops the connection's bytes and
/// waits for the next synchronisation.
public enum WireError: Error, Equatable, Sendable {
    /// A field or a frame ends before the length that it announced.
    case truncated
    /// A length is larger than this end accepts.
    case tooLarge
    /// A frame does not begin as one, or has a kind that does not exist.
    case notAFrame
    /// A field has an impossible encoding or value.
    case malformed
    /// More list elements than this end stores for one message.
    case tooManyElements
    /// Stream bytes beyond the credit that was given.
    case creditExceeded
    /// Stream bytes that do not continue where the last ended.
    case wrongOffset
    /// Stream bytes after the stream's end.
    case afterEnd
    /// A message that must not come in this state.
    case unexpected
}
