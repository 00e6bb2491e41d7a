import CGuest
import StubdomainProtocol

/// The QEMU of a domain, from the toolstack's words to its end.
struct DeviceModel: ~Copyable {
    /// Where QEMU listens, for the toolstack and for us.
    static let control = "/run/qmp"
    private static let own = "/run/own"

    private let store: Store
    private let target: String
    private var folder: String { Stubdomain.folder(of: target) }

    init() throws(Failure) {
        let store = try Store()
        target = try store.read("target")
        self.store = store
    }

    /// Returns when QEMU has ended, or cannot be had.
    borrowing func run() {
        do throws(Failure) {
            // xl waits for this word, and for no more than 30 seconds, which an emulated host may need to start QEMU. It lets nothing run: Hull
            // waits for a word of its own, below, before it does.
            try store.write("\(folder)/state", "running")
            let saved = try SavedDevices(console(1, O_WRONLY))
            let qemu = try start(saved.file.number)
            let watch = guest_pidfd_open(qemu)
            guard watch >= 0 else { throw Failure("watching QEMU: \(KernelError(-watch).words)") }
            var socket: Int32 = -1
            // Ours stays open: without any, QEMU forgets the file that it saves to.
            if awaitService(watch, &socket) {
                try store.write("\(folder)/\(Stubdomain.readiness)", Stubdomain.ready)
                var channel = ControlChannel(saved)
                while try channel.serve(store, "\(folder)/qmp-vchan", until: watch) {}
            }
            var status: Int32 = 0
            waitpid(qemu, &status, 0)
            let signal = guest_exit_signal(status)
            throw Failure(signal > 0 ? "QEMU was ended by signal \(signal)" : "QEMU ended with \(guest_exit_code(status))")
        } catch {
            say(error.message)
            // For who waits for it still; where the store cannot be written, the console has it.
            try? store.write("\(folder)/\(Stubdomain.readiness)", error.message)
        }
    }

    private func start(_ saving: Int32) throws(Failure) -> Int32 {
        let place = try store.read("/local/domain/\(target)/vm") + "/image/dm-argv"
        var words: [String] = []
        for name in try store.list(place) { words.append(try store.read("\(place)/\(name)")) }
        // Console 1 takes what is saved, console 2 has what is restored, and the guest's serial ports are those after (xen/docs/misc/stubdom.txt).
        let isRestored = words.contains(DeviceModelArguments.incoming)
        let restoring = isRestored ? SavedDevices.restore(from: console(2, O_RDONLY)) : guest_open("/dev/null", O_RDONLY, 0)
        for number in 3..<8 {
            let serial = console(number, O_RDWR)
            if serial >= 0 { close(serial) }
        }
        let arguments =
            [Stubdomain.program]
            + DeviceModelArguments.make(words, restoring: 4, saving: 3, control: Self.control, own: Self.own)
        let block = arguments.flatMap { Array($0.utf8CString) }
        let child = block.withUnsafeBufferPointer { block in
            [saving, restoring].withUnsafeBufferPointer { passed in
                guest_spawn(guest_strings(block.baseAddress!, arguments.count)!, passed.baseAddress!, 2)
            }
        }
        if restoring >= 0 { close(restoring) }
        guard child > 0 else { throw Failure("starting QEMU: \(KernelError(-child).words)") }
        return child
    }

    /// Opens one of the domain's consoles, which carries bytes as they are from now on. QEMU wants files of just the access that it needs.
    private func console(_ number: Int, _ access: Int32) -> Int32 {
        let file = guest_open("/dev/hvc\(number)", access | O_NOCTTY, 0)
        if file >= 0 { _ = guest_make_raw(file) }
        return file
    }

    /// Waits until QEMU serves its domain; false when it ended before.
    private func awaitService(_ watch: Int32, _ socket: inout Int32) -> Bool {
        while true {
            socket = guest_connect(Self.own)
            if socket >= 0 { break }
            if hasEnded(watch, within: 50) { return false }
        }
        var said: [UInt8] = []
        // The greeting comes by itself.
        guard waitLine(socket, watch, &said) else { return false }
        guard ask(socket, watch, "qmp_capabilities", &said) else { return false }
        repeat {
            guard ask(socket, watch, "query-status", &said) else { return false }
            // It is not running while it reads what was saved.
            if contains(said, "\"status\": \"running\"") { return true }
        } while !hasEnded(watch, within: 50)
        return false
    }

    private func hasEnded(_ watch: Int32, within milliseconds: Int32) -> Bool { guest_poll([watch], 1, milliseconds) != 0 }

    private func ask(_ socket: Int32, _ watch: Int32, _ command: String, _ said: inout [UInt8]) -> Bool {
        let line = Array("{\"execute\":\"\(command)\"}\n".utf8)
        guard line.withUnsafeBytes({ write(socket, $0.baseAddress, $0.count) }) == line.count else { return false }
        repeat {
            guard waitLine(socket, watch, &said) else { return false }
        } while !contains(said, "\"return\"")
        return true
    }

    /// Reads up to the end of a line; false when QEMU ended.
    private func waitLine(_ socket: Int32, _ watch: Int32, _ line: inout [UInt8]) -> Bool {
        line = []
        var byte: UInt8 = 0
        while line.count < ControlFilter.answerLimit {
            if guest_poll([socket, watch], 2, -1) & 1 == 0 { return false }
            guard read(socket, &byte, 1) == 1 else { return false }
            if byte == 10 { return true }
            line.append(byte)
        }
        return false
    }

    private func contains(_ bytes: [UInt8], _ text: String) -> Bool {
        let wanted = Array(text.utf8)
        return bytes.indices.contains { bytes[$0...].starts(with: wanted) }
    }
}
