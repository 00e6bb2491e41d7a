import CLinux
import Glibc

/// Signals as events: blocked in the process, read from a signalfd (signalfd(2)).
public struct Signals: Sendable {
    private let descriptor: SharedDescriptor

    /// Takes `signals` from now on. Call it on the main thread before any other thread is made.
    public init(_ signals: [Int32]) throws(SystemError) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        descriptor = SharedDescriptor(
            owning: try checked("watch signals") { signalfd(-1, &set, O_CLOEXEC | O_NONBLOCK) })
    }

    /// Waits for the next one.
    public func next() async throws -> Int32 {
        let bytes = try await readSome(descriptor.raw, capacity: MemoryLayout<signalfd_siginfo>.size)
        return bytes.withUnsafeBytes { Int32($0.load(as: UInt32.self)) }
    }

    /// A signal's number by its name, with or without SIG, or by its number; nil for what is none (signal(7)).
    public static func number(_ name: String) -> Int32? {
        if let number = Int32(name) { return (1...64).contains(number) ? number : nil }
        let upper = name.uppercased()
        let short = upper.hasPrefix("SIG") ? String(upper.dropFirst(3)) : upper
        if short.hasPrefix("RTMIN+"), let offset = Int32(short.dropFirst(6)), (0...30).contains(offset) {
            return 34 + offset
        }
        if short.hasPrefix("RTMAX-"), let offset = Int32(short.dropFirst(6)), (0...30).contains(offset) {
            return 64 - offset
        }
        return names[short]
    }

    private static let names: [String: Int32] = [
        "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8,
        "KILL": 9, "USR1": 10,
        "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD": 17,
        "CONT": 18, "STOP": 19,
        "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27,
        "WINCH": 28, "IO": 29,
        "POLL": 29, "PWR": 30, "SYS": 31, "RTMIN": 34, "RTMAX": 64,
    ]
}
