import AgentClient
import AgentProtocol
import Testing

/// A simulated guest whose clock runs wrong, under a discipline that only sees samples with jitter.
@Suite struct ClockDisciplineTests {
    private struct Guest {
        /// Guest raw nanoseconds per host nanosecond.
        var skew: Double
        var host = 0.0
        var raw = 0.0
        var realtime = 0.0
        var rate = 1.0

        mutating func run(_ nanoseconds: Double) {
            host += nanoseconds
            raw += nanoseconds * skew
            realtime += nanoseconds * skew * rate
        }

        mutating func apply(_ command: ClockCommand) {
            realtime += Double(command.step)
            if command.tick != 0 { rate = Double(command.tick) / 10000 + Double(command.frequency) / 65536 / 1e6 }
        }
    }

    private func worst(skew: Double, start: Double = 0, seconds: Double, event: ((inout Guest, Int) -> Void)? = nil) -> (
        Double, Double
    ) {
        var guest = Guest(skew: skew)
        guest.realtime = start
        var discipline = ClockDiscipline()
        var random = Xorshift(state: 88_172_645_463_325_252)
        var worstAfterSecond = 0.0
        var count = 0
        while guest.host < seconds * 1e9 {
            let there = random.next(1...2_000_000)
            let back = random.next(1...2_000_000)
            let before = ClockDiscipline.HostTime(realtime: Int64(guest.host), monotonic: Int64(guest.host))
            guest.run(Double(there))
            var reading = ClockReading()
            reading.realtime = UInt64(max(0, guest.realtime))
            reading.raw = UInt64(guest.raw)
            guest.run(Double(back))
            let after = ClockDiscipline.HostTime(realtime: Int64(guest.host), monotonic: Int64(guest.host))
            let correction = discipline.add(.init(before: before, after: after, guest: reading))
            if let command = correction.command { guest.apply(command) }
            let pause = Double(correction.pause.components.seconds) * 1e9 + Double(correction.pause.components.attoseconds) / 1e9
            for _ in 0..<10 {
                guest.run(pause / 10)
                if guest.host > 2e9 { worstAfterSecond = max(worstAfterSecond, abs(guest.realtime - guest.host)) }
            }
            count += 1
            event?(&guest, count)
        }
        return (worstAfterSecond / 1e6, abs(guest.realtime - guest.host) / 1e6)
    }

    @Test(arguments: [1.0, 1.0001, 0.9998, 1.02, 0.98, 1.05, 0.95, 1.09, 0.91])
    func staysWithinTwentyMilliseconds(skew: Double) {
        let (worst, last) = worst(skew: skew, start: 3e9, seconds: 2 * 3600)
        #expect(worst < 20, "skew \(skew): \(worst) ms at worst")
        #expect(last < 5)
    }

    @Test func recoversAfterStandingStill() {
        // The guest stands still for a minute after its 40th sample; the sample after that finds it.
        let (_, last) = worst(skew: 1.03, seconds: 1200) { guest, count in
            if count == 40 { guest.host += 60e9 }
        }
        #expect(last < 5)
    }

    @Test func hostileReadingsDoNotCrash() {
        var discipline = ClockDiscipline()
        var moment: Int64 = 1
        for value in [0, UInt64.max, 1, UInt64.max >> 1, 1 << 62, 5] {
            var reading = ClockReading()
            reading.realtime = value
            reading.raw = value
            let time = ClockDiscipline.HostTime(realtime: moment, monotonic: moment)
            moment += 1_000_000_000
            let correction = discipline.add(.init(before: time, after: time, guest: reading))
            #expect(correction.pause > .zero)
        }
    }
}

/// Repeatable random numbers.
private struct Xorshift {
    var state: UInt64

    mutating func next(_ range: ClosedRange<UInt64>) -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return range.lowerBound + state % (range.upperBound - range.lowerBound + 1)
    }
}
