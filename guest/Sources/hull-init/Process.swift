import AgentProtocol
import CGuest

/// A process of a container: its streams, its start and its end.
final class Process {
    /// The host's number for it.
    let id: UInt64
    /// Its container's.
    let container: String
    let isExec: Bool
    let hasTerminal: Bool
    /// Whether it is a relay of the agent's own.
    let isRelay: Bool
    /// In the agent's pid namespace.
    let pid: Int32
    let pidfd: Descriptor

    /// The request that started it, until it is answered.
    var pendingRequest: UInt64?
    /// What that request was: a start, or the release of a held one.
    var pendingKind = RequestKind.startProcess
    /// The socket on which the child says what failed; it ends when the program runs.
    var start: Descriptor?
    /// What the child said.
    var failure: AgentFailure?

    var input: Descriptor?
    var output: Descriptor?
    var error: Descriptor?
    var outputWindow: SendWindow
    var errorWindow: SendWindow
    var inputWindow = ReceiveWindow()
    /// Input that the process did not take yet, at most a window.
    var inputQueue = ByteQueue()
    /// Whether the host ended the input.
    var inputEnds = false

    /// Whether output and error are watched now (not while there is no credit).
    var watchesOutput = false
    var watchesError = false
    var watchesInput = false

    /// When output was last read, and whether that was little.
    var lastRead: UInt64 = 0
    var lastWasSmall = false

    /// How many reads found a whole pipe of output.
    var fullReads = 0

    /// How it ended, once it did.
    var exit: ProcessExit?
    /// Whether the host wants no more output: it is read and dropped.
    var discards = false
    /// The container's count of OOM kills when it started.
    var oomKillsBefore: UInt64 = 0

    init(_ configuration: ProcessConfiguration, pid: Int32, pidfd: consuming Descriptor) {
        id = configuration.process
        container = configuration.container
        isRelay = !configuration.relay.utf8.isEmpty
        // It is no container's init process.
        isExec = configuration.isExec || isRelay
        hasTerminal = configuration.terminal
        self.pid = pid
        self.pidfd = pidfd
        outputWindow = SendWindow(limit: configuration.credit)
        errorWindow = SendWindow(limit: configuration.credit)
    }

    /// Its positions, for a new epoch.
    var state: ProcessState {
        var state = ProcessState()
        state.process = id
        state.container = container
        state.pid = UInt32(pid)
        state.output = outputWindow.offset
        state.error = errorWindow.offset
        state.input = inputWindow.offset
        state.ended = (outputWindow.ended ? 1 : 0) | (errorWindow.ended ? 2 : 0) | (inputWindow.ended ? 4 : 0)
        state.isExec = isExec
        state.isRelay = isRelay
        return state
    }
}
