import Glibc

/// What this process says on its own standard streams, past any buffer.
public enum StandardStreams {
    /// A line on standard error. Nothing can be done where it cannot be written.
    public static func complain(_ line: String) { write(2, Array("\(line)\n".utf8)) }

    /// Bytes on standard output, or standard error.
    public static func write(_ number: Int32, _ bytes: [UInt8]) {
        var offset = 0
        while offset < bytes.count {
            let wrote = bytes.withUnsafeBytes {
                Glibc.write(number, $0.baseAddress! + offset, $0.count - offset)
            }
            if wrote > 0 {
                offset += wrote
            } else if errno == EAGAIN {
                var poll = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
                Glibc.poll(&poll, 1, -1)
            } else if errno != EINTR {
                return
            }
        }
    }
}
