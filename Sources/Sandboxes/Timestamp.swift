import CLinux
import Glibc

/// A moment, in nanoseconds since 1970 (UTC).
public struct Timestamp: Codable, Hashable, Sendable, Comparable {
    public var nanoseconds: Int64

    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// Now, by CLOCK_REALTIME.
    public static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    public static func < (a: Timestamp, b: Timestamp) -> Bool { a.nanoseconds < b.nanoseconds }

    /// `2026-11-21T01:02:03.000000004Z`.
    public var rfc3339: String {
        var seconds = time_t(nanoseconds / 1_000_000_000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func padded(_ number: Int, _ digits: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        let date =
            "\(padded(Int(parts.tm_year) + 1900, 4))-\(padded(Int(parts.tm_mon) + 1, 2))-\(padded(Int(parts.tm_mday), 2))"
        let time =
            "\(padded(Int(parts.tm_hour), 2)):\(padded(Int(parts.tm_min), 2)):\(padded(Int(parts.tm_sec), 2))"
        return "\(date)T\(time).\(padded(Int(nanoseconds % 1_000_000_000), 9))Z"
    }

    /// Reads RFC 3339 with an optional fraction, in UTC or with an offset; nil for anything else.
    public init?(rfc3339 text: String) {
        var rest = Substring(text)
        func number(_ digits: Int) -> Int? {
            guard rest.count >= digits, let value = Int(rest.prefix(digits)) else { return nil }
            rest = rest.dropFirst(digits)
            return value
        }
        func literal(_ characters: String) -> Bool {
            guard let first = rest.first, characters.contains(first) else { return false }
            rest = rest.dropFirst()
            return true
        }
        guard let year = number(4), literal("-"), let month = number(2), literal("-"),
            let day = number(2), literal("Tt "),
            let hour = number(2), literal(":"), let minute = number(2), literal(":"),
            let second = number(2)
        else { return nil }
        var fraction: Int64 = 0
        if literal(".") {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count)
            guard !digits.isEmpty,
                let value = Int64((digits.prefix(9) + repeatElement("0", count: 9)).prefix(9))
            else { return nil }
            fraction = value
        }
        var offset = 0
        if !literal("Zz") {
            guard let sign = rest.first, "+-".contains(sign) else { return nil }
            rest = rest.dropFirst()
            guard let hours = number(2), literal(":"), let minutes = number(2) else { return nil }
            offset = (hours * 60 + minutes) * 60 * (sign == "-" ? -1 : 1)
        }
        guard rest.isEmpty else { return nil }
        var parts = tm()
        parts.tm_year = Int32(year - 1900)
        parts.tm_mon = Int32(month - 1)
        parts.tm_mday = Int32(day)
        parts.tm_hour = Int32(hour)
        parts.tm_min = Int32(minute)
        parts.tm_sec = Int32(second)
        nanoseconds = Int64(timegm(&parts) - offset) * 1_000_000_000 + fraction
    }
}
