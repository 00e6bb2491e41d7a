import Foundation
import Testing

extension IntegrationTests {
    /// The guest's clock beside the host's, in a machine whose kernel believes in a wrong frequency of its time stamp counter.
    @Suite struct Clocks {
        let lab = Lab.shared

        /// What both clocks differ by lies between these (guest less host, milliseconds).
        struct Bounds {
            var least = -Double.infinity
            var most = Double.infinity
        }

        @Test func staysWithTheHostThoughItsCounterIsWrong() throws {
            // The identifier of the host's boot, and the frequency. A host with KVM needs none.
            guard let measured = try? lab.read("/run/hull/tsc-khz"),
                let word = measured.split(whereSeparator: \.isWhitespace).last,
                let kilohertz = Int(word)
            else { return print("skipped: no machine here was told the counter's frequency") }
            try lab.good(
                "run", "-d", "--name", "clock", "--network", "none", "--kernel-args", "tsc_early_khz=\(kilohertz * 102 / 100)",
                lab.image, "sleep", "infinity")
            #expect(try lab.good("exec", "clock", "cat", "/proc/cmdline").text.contains("tsc_early_khz=\(kilohertz * 102 / 100)"))
            let reader = try lab.start(
                "exec", "-i", "--privileged", "clock", "sh", "-c",
                "echo up; while read x; do adjtimex | sed -n 's/^ *time.tv_//p'; echo \"#$x\"; done", open: true)
            try reader.expect("up")
            // At once, and for a minute, in which an undisciplined clock would lose 1200 ms.
            for _ in 0..<7 {
                try expectTogether(reader)
                try lab.host("sleep", "9")
            }
            // The machine stands still: its clock does, too.
            let monitor = try #require(lab.state("clock")["Pid"] as? Int)
            let children = try lab.read("/proc/\(monitor)/task/\(monitor)/children").split(separator: " ").compactMap {
                pid_t($0)
            }
            let machine = try #require(
                children.first { (try? lab.read("/proc/\($0)/comm"))?.hasPrefix("qemu") == true }, "no QEMU below \(monitor)")
            kill(machine, SIGSTOP)
            try lab.host("sleep", "5")
            kill(machine, SIGCONT)
            // The next look is at most ten seconds away.
            try lab.host("sleep", "15")
            try expectTogether(reader)
            reader.endInput()
            _ = try reader.finish()
            try lab.good("rm", "-f", "clock")
        }

        private func expectTogether(_ reader: Program, _ place: SourceLocation = #_sourceLocation) throws {
            let bounds = try compare(reader)
            print("guest less host: \(bounds.least) … \(bounds.most) ms")
            #expect(bounds.most - bounds.least < 15, "the machine is too busy to tell", sourceLocation: place)
            #expect(bounds.least > -20 && bounds.most < 20, "guest less host: \(bounds) ms", sourceLocation: place)
        }

        /// Each reading of the guest's clock lies between two of the host's; what all of them allow is narrower than any allows alone.
        private func compare(_ reader: Program) throws -> Bounds {
            var bounds = Bounds()
            for sample in 0..<200 where sample < 20 || bounds.most - bounds.least >= 15 {
                let start = reader.bytes.count
                let before = Self.now()
                reader.type("\(sample)\n")
                try reader.expect("#\(sample)\n", after: start)
                let after = Self.now()
                let words = String(decoding: reader.bytes[start...], as: UTF8.self).split(whereSeparator: \.isWhitespace)
                func value(_ name: String) throws -> Double {
                    let index = try #require(words.firstIndex(of: Substring(name)), "the guest said \(words)")
                    return try #require(Double(words[index + 1]))
                }
                let guest = try value("sec:") * 1000 + value("usec:") / 1000
                bounds.least = max(bounds.least, guest - after)
                bounds.most = min(bounds.most, guest - before)
            }
            return bounds
        }

        private static func now() -> Double {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            return Double(time.tv_sec) * 1000 + Double(time.tv_nsec) / 1e6
        }
    }
}
