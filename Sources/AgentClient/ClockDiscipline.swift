public import AgentProtocol
import Glibc

/// Keeps a guest's wall clock with the host's: samples in, corrections out; pure.
///
/// The guest's undisciplined clock (CLOCK_MONOTONIC_RAW) is compared with the host's over a growing distance, which gives
/// the rate that the guest's clock needs, whatever it was set to before; adjtimex takes up to ±10 % by `tick` and the rest by
/// `frequency`. What is left of the offset is removed by running a little faster or slower until the next sample, or,
/// when it is large, at once.
public struct ClockDiscipline: Sendable {
    /// The host's clocks at one moment.
    public struct HostTime: Equatable, Sendable {
        /// CLOCK_REALTIME, nanoseconds.
        public var realtime: Int64
        /// CLOCK_MONOTONIC, nanoseconds (disciplined by the host's NTP, not stepped).
        public var monotonic: Int64

        /// A moment.
        public init(realtime: Int64, monotonic: Int64) {
            self.realtime = realtime
            self.monotonic = monotonic
        }

        /// This moment.
        public static func now() -> HostTime {
            func read(_ clock: clockid_t) -> Int64 {
                var time = timespec()
                clock_gettime(clock, &time)
                return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
            }
            return HostTime(realtime: read(CLOCK_REALTIME), monotonic: read(CLOCK_MONOTONIC))
        }
    }

    /// One comparison of the clocks.
    public struct Sample: Equatable, Sendable {
        /// The guest's wall clock less the host's, nanoseconds.
        public var offset: Int64
        /// Half of the round trip: how wrong the offset can be, nanoseconds.
        public var uncertainty: Int64
        /// The host's monotonic clock in the middle.
        public var host: Int64
        /// The guest's raw clock then.
        public var raw: Int64

        /// From the host's clocks around a reading of the guest's. Impossible readings of a hostile guest are kept in range.
        public init(before: HostTime, after: HostTime, guest: ClockReading) {
            let trip = max(0, after.monotonic - before.monotonic)
            let middle = before.realtime &+ trip / 2
            let clamp: UInt64 = 1 << 62
            offset = Int64(min(guest.realtime, clamp)) - middle
            uncertainty = trip / 2
            host = before.monotonic &+ trip / 2
            raw = Int64(min(guest.raw, clamp))
        }
    }

    /// What to do, and when to look again.
    public struct Correction: Equatable, Sendable {
        /// For the agent; nil when nothing is to be changed.
        public var command: ClockCommand?
        /// Until the next sample.
        public var pause: Duration
    }

    /// The last sample.
    public private(set) var last: Sample?
    /// Where the measurement of the rate begins.
    private var base: Sample?
    /// Host nanoseconds per raw nanosecond of the guest.
    private var rate = 1.0
    /// How wrong the rate can be.
    private var rateError = 0.1
    private var count = 0

    /// No sample yet.
    public init() {}

    /// Above this the clock is stepped, nanoseconds.
    static let stepThreshold: Int64 = 8_000_000

    /// Takes a sample. Clocks that stood still (pause, restore, suspend) show as a jump and begin the measurement anew.
    public mutating func add(_ sample: Sample) -> Correction {
        count += 1
        defer { last = sample }
        guard let base, sample.raw > base.raw, sample.host > base.host else {
            return begin(sample)
        }
        let hostDistance = Double(sample.host - base.host)
        let rawDistance = Double(sample.raw - base.raw)
        let measured = hostDistance / rawDistance
        let error = Double(sample.uncertainty + base.uncertainty) / hostDistance
        if abs(measured - rate) > rateError + error + 0.002 {
            // It stood still, or the host did.
            return begin(sample)
        }
        if error < rateError {
            rate = measured
            rateError = error
        } else {
            // An old rate wears out: temperature, frequency changes of the host.
            rateError += 0.000_002
        }
        // A distance of minutes says enough, and forgets what was long ago.
        if hostDistance > 120e9, error < 0.000_05 { self.base = sample }
        return correct(sample)
    }

    private mutating func begin(_ sample: Sample) -> Correction {
        let isFirst = base == nil
        base = sample
        if !isFirst { rateError = max(rateError, 0.001) }
        var correction = correct(sample)
        correction.pause = .milliseconds(100)
        return correction
    }

    private mutating func correct(_ sample: Sample) -> Correction {
        let pause = nextPause(sample)
        var command = ClockCommand()
        let isKnown = rateError < 0.05
        var correction = 0.0
        // What the reading itself may be wrong by is no reason to move the clock.
        let significant = abs(sample.offset) > sample.uncertainty ? sample.offset : 0
        if abs(significant) > Self.stepThreshold {
            command.step = significant == Int64.min ? Int64.max : -significant
        } else {
            let seconds = Double(pause.components.seconds) + Double(pause.components.attoseconds) / 1e18
            correction = -Double(significant) / (seconds * 1e9)
            // Half of it a period, and never so much that programs notice.
            correction = min(max(correction * 0.5, -0.004), 0.004)
        }
        if isKnown { setRate(rate + correction, &command) }
        return Correction(command: command == ClockCommand() ? nil : command, pause: pause)
    }

    /// adjtimex: nominally 10,000 µs a tick (USER_HZ = 100), frequency in ppm × 65,536 up to ±500 ppm.
    private func setRate(_ wanted: Double, _ command: inout ClockCommand) {
        let limited = min(max(wanted, 0.9), 1.1)
        let tick = (limited * 10000).rounded()
        let rest = limited * 10000 - tick
        command.tick = UInt32(tick)
        command.frequency = Int64((rest * 100 * 65536).rounded())
    }

    private func nextPause(_ sample: Sample) -> Duration {
        if rateError > 0.01 { return .milliseconds(100) }
        if rateError > 0.002 { return .milliseconds(400) }
        if rateError > 0.000_5 { return .milliseconds(1500) }
        if abs(sample.offset) > 4_000_000 { return .seconds(2) }
        return rateError > 0.000_1 ? .seconds(4) : .seconds(10)
    }
}
