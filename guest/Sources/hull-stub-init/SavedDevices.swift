import CGuest

/// What QEMU saves of its devices, on its way to the toolstack. QEMU cuts the file short that it saves to, which a console does not let be done to
/// it; so it gets a file of the ramdisk's, and the console what that holds.
struct SavedDevices: ~Copyable {
    private static let path = "/run/saved"
    /// More than can be under way in a console: its ring has 2 KiB, and whoever reads it takes as much at once.
    private static let rest = 8192

    /// For QEMU, which wants to write and not to read. Where it goes on is what we have in common.
    let file: Descriptor
    private let console: Int32

    /// `console` is the toolstack's; negative where there is none.
    init(_ console: Int32) throws(Failure) {
        self.console = console
        do throws(KernelError) {
            file = Descriptor(owning: try KernelError.check(guest_open(Self.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)))
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
        var chunk = [UInt8](repeating: 0, count: Self.rest)
        while true {
            let got = read(reading, &chunk, chunk.count)
            if got < 0 { return false }
            if got == 0 { break }
            guard write(chunk, got) else { return false }
        }
        return write([UInt8](repeating: 0, count: Self.rest), Self.rest)
    }

    private borrowing func write(_ bytes: [UInt8], _ count: Int) -> Bool {
        var done = 0
        while done < count {
            let wrote = bytes.withUnsafeBytes { CGuest.write(console, $0.baseAddress! + done, count - done) }
            if wrote < 0, guest_errno() == EINTR { continue }
            guard wrote > 0 else { return false }
            done += wrote
        }
        return true
    }
}
