import AgentProtocol
import CGuest
import StubdomainProtocol

/// The toolstack's way to QEMU's control connection: memory that is shared with domain 0 as libxenvchan has it, and the filter between the two.
struct ControlChannel: ~Copyable {
    private let saved: SavedDevices
    private var chunk = [UInt8](repeating: 0, count: 4096)

    init(_ saved: consuming SavedDevices) { self.saved = saved }

    /// Offers memory below `place` in the store, and carries one connection of the toolstack's. False when `watch`, QEMU's process, has ended.
    mutating func serve(_ store: borrowing Store, _ place: String, until watch: Int32) throws(Failure) -> Bool {
        var references = [UInt32](repeating: 0, count: 1 + SharedStream.ringPages)
        var channel: UInt32 = 0
        var number: Int32 = -1
        guard let head = guest_share_memory(&references, UInt32(references.count), &number, &channel) else {
            throw Failure("no memory can be shared with the toolstack: \(KernelError(guest_errno()).words)")
        }
        let events = Descriptor(owning: number)
        var stream = SharedStream(serving: head, rings: head + SharedStream.page)
        for (index, reference) in references.dropFirst().enumerated() {
            head.storeBytes(of: reference, toByteOffset: SharedStream.referencesOffset + 4 * index, as: UInt32.self)
        }
        try store.write("\(place)/event-channel", "\(channel)")
        // Who waits for the offer looks when this comes.
        try store.write("\(place)/ring-ref", "\(references[0])")
        while stream.otherEnd == .awaited {
            if guest_poll([events.number, watch], 2, -1) & 2 != 0 { return false }
            guest_take_event(events.number)
        }
        defer {
            stream.leave()
            guest_notify(events.number, channel)
        }
        let socket = guest_connect(DeviceModel.control)
        guard socket >= 0 else { return guest_poll([watch], 1, 1000) == 0 }
        let qemu = Descriptor(owning: socket)
        do throws(Break) {
            return try carry(&stream, events.number, channel, qemu.number, watch)
        } catch {
            if error != .ended {
                say("the control connection is ended: \(error == .malformed ? "no line of QMP" : "a broken ring")")
            }
            return guest_poll([watch], 1, 0) == 0
        }
    }

    private enum Break: Error { case malformed, ring, ended }

    private mutating func carry(
        _ stream: inout SharedStream, _ events: Int32, _ channel: UInt32, _ qemu: Int32, _ watch: Int32
    ) throws(Break) -> Bool {
        var filter = ControlFilter()
        var answers: [UInt8] = []
        while true {
            // Everything that is there, until nothing moves any more.
            var moves = true
            while moves {
                moves = false
                // Who does not read its answers is not heard.
                let isHeard = answers.count < ControlFilter.answerLimit
                // -1: the toolstack broke the ring.
                let got = isHeard ? chunk.withUnsafeMutableBytes { (try? stream.read(into: $0)) ?? -1 } : 0
                let wrote = answers.withUnsafeBytes { (try? stream.write($0)) ?? -1 }
                guard got >= 0, wrote >= 0 else { throw .ring }
                answers.removeFirst(wrote)
                if got > 0 {
                    moves = true
                    try pass(got, &filter, qemu, &answers)
                }
            }
            if stream.takeNotice() { guest_notify(events, channel) }
            if stream.otherEnd == .gone { throw .ended }
            // QEMU waits while the toolstack does not read.
            let ready = guest_poll([events, watch, answers.isEmpty ? qemu : -1], 3, -1)
            if ready & 2 != 0 { return false }
            if ready & 1 != 0 { guest_take_event(events) }
            if ready & 4 != 0 {
                let got = read(qemu, &chunk, chunk.count)
                guard got > 0 else { throw .ended }
                do throws(ControlFilter.Malformed) { answers += try filter.take(fromQEMU: chunk[0..<got]) } catch {
                    throw .malformed
                }
                // Before the toolstack hears that it is there.
                if filter.takeSaved(), !saved.hand() { throw .ended }
            }
        }
    }

    /// Judges what the toolstack said. Its lines are short, and QEMU reads them: they are written in one piece.
    private func pass(_ count: Int, _ filter: inout ControlFilter, _ qemu: Int32, _ answers: inout [UInt8]) throws(Break) {
        let steps: [ControlFilter.Step]
        do throws(ControlFilter.Malformed) { steps = try filter.take(fromToolstack: chunk[0..<count]) } catch {
            throw .malformed
        }
        for step in steps {
            switch step {
            case .answer(let line): answers += line
            case .pass(let line):
                // Where QEMU has gone, the reading says so.
                _ = line.withUnsafeBytes { write(qemu, $0.baseAddress, $0.count) }
            }
        }
    }
}
