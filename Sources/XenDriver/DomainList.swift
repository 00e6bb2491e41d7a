/// What the hypervisor says of a domain.
struct DomainState: Hashable, Sendable {
    var id: UInt32
    var name: String
    var isPaused: Bool
    var isDying: Bool
    /// Why it stands still for good; nil while it runs.
    var end: End?

    /// Whether it is the one that xl makes for the device model of the domain with that UUID, whose name begins as the UUID does (`DomainPlan`).
    func isStubdomain(of uuid: String) -> Bool {
        name.hasPrefix("hull-" + uuid.filter { $0 != "-" }) && name.hasSuffix("-dm")
    }

    /// SHUTDOWN_* of xen/include/public/sched.h.
    enum End: Int, Sendable { case powerOff, reboot, suspend, crash, watchdog, softReset }
}

extension DomainState {
    /// From Xen's own word, XEN_DOMINF_* of xen/include/public/domctl.h, of which `xl list -v` shows the same.
    init(id: UInt32, name: String, flags: Int) {
        self.init(
            id: id, name: name, isPaused: flags & 1 << 3 != 0, isDying: flags & 1 << 0 != 0,
            // A reason that is none of those we know is the end of it all the same.
            end: flags & 1 << 2 != 0 ? .init(rawValue: flags >> 16 & 0xFF) ?? .crash : nil)
    }
}

/// `xl list -v`, read. Pure.
enum DomainList {
    /// The domains by UUID. A line is: name, id, memory, CPUs, state, seconds, UUID, reason, label; a name may have spaces in it.
    static func parse(_ text: String) -> [String: DomainState] {
        var all: [String: DomainState] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard let place = words.firstIndex(where: isUUID), place >= 6, place + 1 < words.count,
                let id = UInt32(words[place - 5])
            else {
                continue
            }
            let state = words[place - 2]
            let isDown = state.contains("s") || state.contains("c")
            all[String(words[place])] = DomainState(
                id: id, name: words[..<(place - 5)].joined(separator: " "), isPaused: state.contains("p"),
                isDying: state.contains("d"),
                // A reason that is none of those we know is the end of it all the same.
                end: isDown ? Int(words[place + 1], radix: 16).flatMap { .init(rawValue: $0) } ?? .crash : nil)
        }
        return all
    }

    private static func isUUID(_ word: Substring) -> Bool {
        word.utf8.count == 36
            && word.split(separator: "-", omittingEmptySubsequences: false).map(\.utf8.count) == [8, 4, 4, 4, 12]
    }
}
