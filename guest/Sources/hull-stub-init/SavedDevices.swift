import CGuest

/// What QEMU saves of its devices, on its way to the toolstack and back, by the domain's consoles.
///
/// QEMU cuts the file short that it saves to, which a console does not let be done to it: so it gets a file of the ramdisk's, and the console what that
/// holds. What comes back comes from the moment at which the console is opened, and until it is made raw it is a terminal, for which bytes have meanings:
/// so there stands first what a terminal takes without a trace.
struct SavedDevices: ~Copyable {
    private static let path = "/run/saved"
    /// XON, again and again: more than all that is between a console's two ends can hold. Then a byte that is no XON.
    private static let preamble: UInt8 = 0x11
    private static let preambleBytes = 80 << 10
    private static let beginning: UInt8 = 0x0A
    /// Behind it, more than can be under way in a console: its ring has 2 KiB, and whoever reads it takes as much at once.
    private static let rest = 8192

    /// For QEMU, which wants to write and not to read. Where it goes on is what we have in common.
    let file: Descriptor
    private let console: Int32

    /// `console` is the toolstack's; negative where there is none.
    init(_ console: Int32) throws(Failure) {
        self.console = console
        do throws(KernelError) {
            file = Descriptor(
                owning: try KernelError.check(guest_open(Self.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)))
        } catch {
            throw Failure("making \(Self.path): \(error.words)")
        }
    }

    /// Writes what is there to the console, and zeros behind it: when the last of those is written, all that counts has been read. The end of what is
    /// saved is in it. False where the console does not take it.
    borrowing func hand() -> Bool {
        let reading = guest_open(Self.path, O_RDONLY | O_CLOEXEC, 0)
        guard console >= 0, reading >= 0 else { return false }
        defer {
            close(reading)
            // The next one begins at the beginning.
            lseek(file.number, 0, SEEK_SET)
            ftruncate(file.number, 0)
        }
        let before = [UInt8](repeating: Self.preamble, count: Self.preambleBytes) + [Self.beginning]
        guard Self.write(console, before, before.count) else { return false }
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let got = read(reading, &chunk, chunk.count)
            if got < 0 { return false }
            if got == 0 { break }
            guard Self.write(console, chunk, got) else { return false }
        }
        return Self.write(console, [UInt8](repeating: 0, count: Self.rest), Self.rest)
    }

    /// A pipe out of which QEMU can read what was saved and comes from this console, which is closed here; negative where there is none.
    static func restore(from console: Int32) -> Int32 {
        var ends: [Int32] = [-1, -1]
        guard console >= 0, pipe(&ends) == 0 else { return -1 }
        if guest_fork() == 0 {
            close(ends[0])
            var chunk = [UInt8](repeating: 0, count: 65536)
            var hasBegun = false
            while true {
                let got = read(console, &chunk, chunk.count)
                if got < 0, guest_errno() == EINTR { continue }
                guard got > 0 else { exit(1) }
                var bytes = chunk[..<got]
                if !hasBegun {
                    guard let start = bytes.firstIndex(where: { $0 != preamble }) else { continue }
                    hasBegun = true
                    bytes = bytes[(start + 1)...]
                }
                // QEMU has all that it wants when it closes its end.
                guard write(ends[1], Array(bytes), bytes.count) else { exit(0) }
            }
        }
        close(ends[1])
        close(console)
        return ends[0]
    }

    private static func write(_ target: Int32, _ bytes: [UInt8], _ count: Int) -> Bool {
        var done = 0
        while done < count {
            let wrote = bytes.withUnsafeBytes { CGuest.write(target, $0.baseAddress! + done, count - done) }
            if wrote < 0, guest_errno() == EINTR { continue }
            guard wrote > 0 else { return false }
            done += wrote
        }
        return true
    }
}
