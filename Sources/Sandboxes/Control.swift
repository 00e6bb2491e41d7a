public import LinuxSystem

/// What a verb asks a monitor. One request opens a connection; `attach`, `exec` and `start` then go on with `Later` messages.
public struct Request: Codable, Sendable {
    /// The version of this protocol. A monitor answers older ones; what it does not know it refuses by name.
    public static let version = 1
    public var version = Request.version
    public var verb: Verb

    public enum Verb: Codable, Sendable {
        /// Starts the container; the first request a monitor gets, from the verb that made it.
        case start(Streams)
        /// Starts it where it was saved: the folder of a snapshot; as the one that it was, or as a new one. As `start` comes first.
        case restore(folder: String, isFork: Bool, Streams)
        /// Makes its machine ready, and lets it wait for a container. As `start` comes first; answered when it waits.
        case keep
        /// Takes a waiting machine for the container of this record; `start` follows over the same connection.
        case claim(ContainerRecord)
        /// Saves it to a folder that is there. Answered by a document, what `SnapshotManifest` needs. With `ends` it stands still then until
        /// `Later.end` comes, which ends it and is answered; where that does not come, it goes on. With the folder of a `parent`, only what is
        /// different from that snapshot; a monitor that knows of none saves all.
        case save(folder: String, ends: Bool, parent: String?)
        /// Joins the running container's streams.
        case attach(Streams)
        /// Runs another process; its streams come with the message.
        case exec(ContainerRecord.ProcessSettings, Streams, detached: Bool)
        /// Sends a signal to the container's first process.
        case kill(Int32)
        /// Asks it to end, and kills it after so many seconds.
        case stop(signal: Int32, seconds: Int)
        /// Its end, at once: it is about to be removed.
        case discard
        /// Answers when the container has ended.
        case wait
        /// The processes in the container.
        case top
        /// Stands its machine still, or lets it go on.
        case pause(Bool)
        /// What a container engine asks, by `hull-runtime`.
        case engine(EngineRequest)
    }

    public init(_ verb: Verb) { self.verb = verb }
}

/// Which of the three standard streams come as descriptors with a message, in this order.
public struct Streams: Codable, Hashable, Sendable {
    public var input = false
    public var output = false
    public var error = false
    /// The user's window, where there is a terminal.
    public var rows: UInt16?
    public var columns: UInt16?
    /// Whether the end of this connection ends the container's standard input too.
    public var ownsInput = false
    public init() {}
}

/// What follows an `attach`, `exec` or `start`.
public enum Later: Codable, Sendable {
    /// After a `save` that ends: all that was saved is where it belongs.
    case end
    case resize(rows: UInt16, columns: UInt16)
    case signal(Int32)
}

/// What a monitor answers.
public enum Reply: Codable, Sendable {
    /// It runs (or: it was done).
    case done
    /// It ended so; all its output was written before.
    case exited(code: Int32, oomKilled: Bool)
    /// It could not be done: the sentence, and the exit code the verb is to end with.
    case failed(sentence: String, code: Int32)
    /// Nobody reads what the container writes to this verb's outputs any more; it runs on.
    case outputClosed
    /// `top`: titles, and a row for each process.
    case processes(titles: [String], rows: [[String]])
    /// What an engine's question is answered with: JSON.
    case document(String)
}

extension Reply {
    /// The reply for an error.
    init(_ error: any Error) {
        let code = (error as? any HullError)?.exitCode ?? 125
        self = .failed(sentence: "\(error)", code: code)
    }
}
