import AgentProtocol
import CGuest

/// What the whole machine is called, knows and is connected to.
enum Guest {
    /// The machine-id that containers get to see.
    nonisolated(unsafe) static var machineID = ""

    static func kernelRelease() -> String { TextFile.readLine("/proc/sys/kernel/osrelease") }

    /// Makes the machine this one, at boot or after a clone: entropy first, because everything else may use it.
    static func identify(_ identity: Identity, since arrival: UInt64) throws(AgentFailure) {
        if !identity.entropy.isEmpty {
            let device = guest_open("/dev/urandom", O_WRONLY, 0)
            let bytes = identity.entropy
            let done = device < 0 ? device : bytes.withUnsafeBytes { guest_add_entropy(device, $0.baseAddress, UInt32($0.count)) }
            if device >= 0 { close(device) }
            if done < 0 {
                throw AgentFailure(.security, "seeding the guest's random generator: \(KernelError(-done).words)", errno: -done)
            }
        }
        if identity.realtime != 0 { try Clock.set(identity.realtime &+ (guest_clock(CLOCK_MONOTONIC) &- arrival)) }
        if !identity.machineID.utf8.isEmpty { machineID = identity.machineID }
        if !identity.hostname.utf8.isEmpty {
            let name = Array(identity.hostname.utf8)
            let done = name.withUnsafeBytes { sethostname($0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count) }
            if done < 0 {
                throw AgentFailure(
                    .other, "setting the host name \"\(identity.hostname)\": \(KernelError(guest_errno()).words)",
                    errno: guest_errno())
            }
        }
        try Network.apply(identity)
    }

    /// Sets a kernel setting by its dotted name.
    static func set(_ setting: Setting, root: String = "/proc/sys/") throws(AgentFailure) {
        // As sysctl(8): the first separator decides which of the two is one, so that `net/ipv4/conf/eth0.1/forwarding` works.
        let name = Array(setting.name.utf8)
        let slashed = name.first(where: { $0 == 46 || $0 == 47 }) == 47
        let path = name.map { byte -> UInt8 in
            if slashed { return byte }
            return byte == 46 ? 47 : (byte == 47 ? 46 : byte)
        }
        guard !Scan.split(path, 47).contains(where: { $0.isEmpty || $0.first == 46 }) else {
            throw AgentFailure(.sysctl, "\"\(setting.name)\" is no kernel setting")
        }
        do throws(KernelError) { try TextFile.write(root + Scan.text(path), setting.value) } catch {
            throw AgentFailure(.sysctl, "setting \(setting.name) to \"\(setting.value)\": \(error.words)", errno: error.number)
        }
    }
}

/// The guest's clocks.
enum Clock {
    static func reading() -> ClockReading {
        var reading = ClockReading()
        reading.realtime = guest_clock(CLOCK_REALTIME)
        reading.raw = guest_clock(CLOCK_MONOTONIC_RAW)
        return reading
    }

    static func set(_ nanoseconds: UInt64) throws(AgentFailure) {
        var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        if clock_settime(CLOCK_REALTIME, &time) < 0 {
            throw AgentFailure(.other, "setting the guest's clock: \(KernelError(guest_errno()).words)", errno: guest_errno())
        }
    }

    static func apply(_ command: ClockCommand) throws(AgentFailure) {
        if command.tick != 0 {
            let done = guest_adjust_clock(Int(command.tick), Int(command.frequency))
            if done < 0 {
                throw AgentFailure(.other, "setting the rate of the guest's clock: \(KernelError(-done).words)", errno: -done)
            }
        }
        if command.step != 0 {
            let now = guest_clock(CLOCK_REALTIME)
            try set(UInt64(max(0, Int64(bitPattern: now) &+ command.step)))
        }
    }
}
