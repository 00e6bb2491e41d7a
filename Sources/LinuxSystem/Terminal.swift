import CLinux
import Glibc

/// A user's terminal, put into raw mode and back (termios(3)).
public final class Terminal: Sendable {
    private let descriptor: Int32
    private let before: termios

    /// Nil when `descriptor`, which the caller keeps open, is no terminal.
    public init?(_ descriptor: Int32) {
        var settings = termios()
        guard tcgetattr(descriptor, &settings) == 0 else { return nil }
        self.descriptor = descriptor
        before = settings
    }

    /// Every byte goes through as it is, but for output's newlines where `keepOutput`.
    public func makeRaw() throws(SystemError) {
        var settings = before
        cfmakeraw(&settings)
        try checked("put the terminal into raw mode") { tcsetattr(descriptor, TCSADRAIN, &settings) }
    }

    /// As it was found.
    public func restore() {
        var settings = before
        tcsetattr(descriptor, TCSADRAIN, &settings)
    }

    /// Rows and columns; nil where the terminal does not know.
    public static func size(_ descriptor: Int32) -> (rows: UInt16, columns: UInt16)? {
        var rows: UInt16 = 0
        var columns: UInt16 = 0
        guard hull_ioctl_window_size(descriptor, &rows, &columns) == 0, rows > 0 else { return nil }
        return (rows, columns)
    }
}
