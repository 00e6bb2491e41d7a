import CLinux
import Glibc
import Testing

/// A program of the host that a test started: its streams are pipes (or a terminal), its end is awaited with a deadline, and
/// whoever misses the deadline is killed with SIGKILL and fails the test.
final class Program {
    /// What it left.
    struct Output {
        /// Its exit code, or 128 and the signal that ended it.
        var code: Int32
        var bytes: [UInt8]
        var errorBytes: [UInt8]
        var text: String { String(decoding: bytes, as: UTF8.self) }
        var errors: String { String(decoding: errorBytes, as: UTF8.self) }
        var lines: [String] { text.split(separator: "\n").map(String.init) }
        /// The text without space around it.
        var word: String { String(text.trimmingPrefix(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed()) }
    }

    struct Late: Error, CustomStringConvertible {
        var description: String
    }

    let pid: pid_t
    private let name: String
    private let pidfd: Int32
    private var input: Int32
    private var outputs: [Int32]
    private var pending: ArraySlice<UInt8> = []
    private var closesInput = false
    private(set) var bytes: [UInt8] = []
    private(set) var errorBytes: [UInt8] = []
    private var code: Int32?

    /// Starts `arguments`; standard input is empty where none is given and `open` is false.
    init(
        _ arguments: [String], environment: [String: String] = [:], input text: [UInt8] = [], open: Bool = false,
        terminal: Pseudoterminal? = nil
    ) throws {
        name = arguments.joined(separator: " ")
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Signals as a shell has them: what other suites in this process block or ignore is inherited otherwise.
        var none = sigset_t(), all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        var flags: Int16 = 0x04 | 0x08  // POSIX_SPAWN_SETSIGDEF, POSIX_SPAWN_SETSIGMASK
        var theirs: [Int32] = []
        if let terminal {
            // A leader of a session without a terminal gets the first that it opens.
            flags |= 0x80  // POSIX_SPAWN_SETSID
            posix_spawn_file_actions_addopen(&actions, 0, terminal.name, O_RDWR, 0)
            posix_spawn_file_actions_adddup2(&actions, 0, 1)
            posix_spawn_file_actions_adddup2(&actions, 0, 2)
            input = terminal.master
            outputs = [terminal.master]
        } else {
            let pipes = try (0..<3).map { _ in try Self.pipe() }
            posix_spawn_file_actions_adddup2(&actions, pipes[0].read, 0)
            posix_spawn_file_actions_adddup2(&actions, pipes[1].write, 1)
            posix_spawn_file_actions_adddup2(&actions, pipes[2].write, 2)
            theirs = [pipes[0].read, pipes[1].write, pipes[2].write]
            input = pipes[0].write
            outputs = [pipes[1].read, pipes[2].read]
        }
        posix_spawnattr_setflags(&attributes, flags)
        var variables: [String: String] = ["PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        variables.merge(environment) { _, mine in mine }
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var settings: [UnsafeMutablePointer<CChar>?] = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { (words + settings).forEach { free($0) } }
        var pid: pid_t = 0
        let failure = posix_spawnp(&pid, arguments[0], &actions, &attributes, &words, &settings)
        theirs.forEach { close($0) }
        guard failure == 0 else { throw Late(description: "\(name) cannot be started: \(String(cString: strerror(failure)))") }
        self.pid = pid
        pidfd = hull_pidfd_open(pid)
        for descriptor in Set(outputs + [input]) {
            _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        }
        pending = text[...]
        closesInput = !open && terminal == nil
        isTerminal = terminal != nil
    }

    private let isTerminal: Bool

    deinit {
        if code == nil {
            kill(pid, SIGKILL)
            var status: Int32 = 0
            waitpid(pid, &status, 0)
        }
        if !isTerminal { ([input] + outputs).filter { $0 >= 0 }.forEach { close($0) } }
        close(pidfd)
    }

    private static func pipe() throws -> (read: Int32, write: Int32) {
        var ends: [Int32] = [0, 0]
        guard pipe2(&ends, O_CLOEXEC) == 0 else { throw Late(description: "no pipe") }
        return (ends[0], ends[1])
    }

    var text: String { String(decoding: bytes, as: UTF8.self) }
    var errors: String { String(decoding: errorBytes, as: UTF8.self) }

    /// Sends bytes to its standard input.
    func type(_ text: String) { pending += Array(text.utf8) }
    func type(_ bytes: [UInt8]) { pending += bytes }
    /// Ends its standard input when all was sent.
    func endInput() { closesInput = true }
    func signal(_ number: Int32) { kill(pid, number) }

    /// Waits until its output has `text`, from byte `start` of it on.
    func expect(_ text: String, after start: Int = 0, seconds: Int = 30) throws {
        let wanted = Array(text.utf8)
        try pump(seconds, awaiting: "\"\(text)\" from \(name)") {
            $0.bytes.dropFirst(start).firstRange(of: wanted) != nil || $0.errorBytes.firstRange(of: wanted) != nil
        }
    }

    /// Waits for its end and for the end of its output.
    func finish(seconds: Int = 60) throws -> Output {
        try pump(seconds, awaiting: "the end of \(name)") {
            $0.code != nil && ($0.isTerminal || $0.outputs.allSatisfy { $0 < 0 })
        }
        return Output(code: code ?? -1, bytes: bytes, errorBytes: errorBytes)
    }

    private func pump(_ seconds: Int, awaiting what: String, until done: (Program) -> Bool) throws {
        let end = ContinuousClock.now + .seconds(seconds)
        while !done(self) {
            let left = end - ContinuousClock.now
            guard left > .zero else {
                signal(SIGKILL)
                throw Late(
                    description: "\(what) did not come in \(seconds) s; it wrote: \(text.suffix(2000)) \(errors.suffix(2000))")
            }
            if pending.isEmpty, closesInput, input >= 0 {
                close(input)
                input = -1
            }
            var polled = outputs.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            polled.append(pollfd(fd: code == nil ? pidfd : -1, events: Int16(POLLIN), revents: 0))
            polled.append(pollfd(fd: pending.isEmpty ? -1 : input, events: Int16(POLLOUT), revents: 0))
            poll(&polled, nfds_t(polled.count), Int32(min(1000, max(1, left / .milliseconds(1)))))
            for index in outputs.indices where polled[index].revents != 0 { drain(index) }
            if polled[outputs.count].revents != 0 { reap() }
            if polled[outputs.count + 1].revents != 0 { feed() }
            if isTerminal, code != nil {
                drain(0)
                return
            }
        }
    }

    private func drain(_ index: Int) {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(outputs[index], &buffer, buffer.count)
            if count > 0 {
                if index == 0 { bytes += buffer[..<count] } else { errorBytes += buffer[..<count] }
            } else if count < 0, errno == EAGAIN {
                return
            } else {
                // A terminal's master ends with EIO once nobody has the other side.
                if !isTerminal {
                    close(outputs[index])
                    outputs[index] = -1
                }
                return
            }
        }
    }

    private func feed() {
        let count = pending.withUnsafeBytes { write(input, $0.baseAddress, min($0.count, 1 << 16)) }
        if count > 0 {
            pending = pending.dropFirst(count)
        } else if errno != EAGAIN {
            pending = []
        }
    }

    private func reap() {
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return }
        code = hull_wifexited(status) != 0 ? hull_wexitstatus(status) : 128 + hull_wtermsig(status)
    }
}

/// A pseudoterminal, as the user's terminal.
final class Pseudoterminal {
    let master: Int32
    let name: String
    /// Kept open, so that the terminal's settings outlive the program.
    private let slave: Int32

    init(rows: UInt16, columns: UInt16) throws {
        master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var number: UInt32 = 0
        try #require(master >= 0 && hull_ioctl_pty_unlock(master) == 0 && hull_ioctl_pty_number(master, &number) == 0)
        name = "/dev/pts/\(number)"
        slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)
        resize(rows: rows, columns: columns)
    }

    deinit {
        close(slave)
        close(master)
    }

    func resize(rows: UInt16, columns: UInt16) { _ = hull_ioctl_set_window_size(master, rows, columns) }

    /// What raw mode changes.
    var modes: [tcflag_t] {
        var settings = termios()
        tcgetattr(slave, &settings)
        return [settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag]
    }
}
