import CLinux
import Glibc
import LinuxSystem

/// The host's time stamp counter in kHz: under TCG the guest's counter is the host's, and a microvm has nothing else to calibrate it
/// with ("tsc: No reference (HPET/PMTIMER) available"; without the number more than half of the boots hang).
enum TSCFrequency {
    static let cache = "/run/hull/tsc-khz"

    /// The frequency, measured once per boot of the host (5 ms) and then read from `/run`; nil on a CPU without such a counter.
    static func kilohertz(cache: String = cache) -> UInt64? {
        // Both files may be missing or unreadable: then it is measured again.
        let boot = (try? readText("/proc/sys/kernel/random/boot_id"))?.split(separator: "\n").first.map(String.init) ?? ""
        if let text = try? readText(cache), let known = parse(text, boot: boot) { return known }
        guard let measured = measure() else { return nil }
        if let slash = cache.lastIndex(of: "/") {
            // A host whose /run cannot be written measures each time.
            try? makeDirectories(String(cache[..<slash]), mode: 0o755)
            try? replaceFile(cache, Array("\(boot) \(measured)\n".utf8), mode: 0o644)
        }
        return measured
    }

    /// `BOOT-ID KHZ`: nil for another boot or for what is no plausible frequency.
    static func parse(_ text: String, boot: String) -> UInt64? {
        let words = text.split(whereSeparator: \.isWhitespace)
        guard words.count == 2, words[0] == boot, let value = UInt64(words[1]), (100_000...20_000_000).contains(value) else {
            return nil
        }
        return value
    }

    /// Compares the counter with CLOCK_MONOTONIC_RAW over 5 ms: some 20 ppm.
    static func measure() -> UInt64? {
        guard let first = sample() else { return nil }
        usleep(5000)
        guard let second = sample(), second.nanoseconds > first.nanoseconds else { return nil }
        let ticks = second.ticks &- first.ticks
        return (ticks * 1_000_000 + (second.nanoseconds - first.nanoseconds) / 2) / (second.nanoseconds - first.nanoseconds)
    }

    // The clock is read between two readings of the counter; of several tries the tightest counts.
    private static func sample() -> (ticks: UInt64, nanoseconds: UInt64)? {
        var best: (gap: UInt64, ticks: UInt64, nanoseconds: UInt64)?
        for _ in 0..<8 {
            let before = hull_timestamp_counter()
            if before == 0 { return nil }
            var now = timespec()
            clock_gettime(CLOCK_MONOTONIC_RAW, &now)
            let after = hull_timestamp_counter()
            let gap = after &- before
            if gap < best?.gap ?? .max {
                best = (gap, before &+ gap / 2, UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec))
            }
        }
        return best.map { ($0.ticks, $0.nanoseconds) }
    }
}
