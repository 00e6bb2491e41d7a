import AgentProtocol
import CGuest

/// The agent's end of the stream to the host: a port of the kernel's, or memory shared with the host (Xen).
struct Port: ~Copyable {
    /// What is watched: the port itself, or the device that the host's events come through.
    let descriptor: Descriptor
    private var memory: SharedStream?
    private var channel: UInt32 = 0
    /// Where the host is told of the memory, in the domain's store.
    private var name = ""
    /// Whether nobody is at the other end any more.
    private var isVoid = false

    var isMemory: Bool { memory != nil }

    /// A port of the kernel's.
    init(owning number: Int32) { descriptor = Descriptor(owning: number) }

    private init(memory: SharedStream, events: Int32, channel: UInt32, name: String) {
        descriptor = Descriptor(owning: events)
        self.memory = memory
        self.channel = channel
        self.name = name
    }

    /// Shares memory with the host and says where, in the domain's store, below `name`; nil while there is no Xen that could.
    static func share(as name: String = "data/hull") -> Port? {
        var references = [UInt32](repeating: 0, count: 1 + SharedStream.ringPages)
        var channel: UInt32 = 0
        var events: Int32 = -1
        let count = UInt32(references.count)
        guard let head = guest_share_memory(&references, count, &events, &channel) else { return nil }
        let stream = SharedStream(serving: head, rings: head + SharedStream.page)
        for (index, reference) in references.dropFirst().enumerated() {
            head.storeBytes(of: reference, toByteOffset: SharedStream.referencesOffset + 4 * index, as: UInt32.self)
        }
        // The store takes what the first zero ends: the name, then the value.
        let offer = Array("\(name)\0\(references[0]) \(channel)".utf8)
        let written = guest_ask_store(11, offer, UInt32(offer.count), 0)
        if written < 0 { console("the host cannot be told of the shared memory: \(KernelError(-written).words)") }
        return Port(memory: stream, events: events, channel: channel, name: name)
    }

    /// A connection to the domain's store that can be read when the offer may be void; negative where there is none.
    borrowing func watchOffer() -> Int32 {
        if memory == nil { return -1 }
        let words = Array("\(name)\0offer\0".utf8)
        return guest_ask_store(4, words, UInt32(words.count), 1)
    }

    /// Whether the offer is void: the host took it back by writing nothing in its place; or there is none, and this is another domain, into which
    /// the machine was restored. The kernel watches anew there, which is how we come to look.
    enum Offer { case stands, isTakenBack, isOfAnotherDomain }
    mutating func offer(seenBy watch: Int32) -> Offer {
        var words = [UInt8](repeating: 0, count: 256)
        while CGuest.read(watch, &words, words.count) > 0 {}
        let name = Array("\(name)\0".utf8)
        let length = guest_ask_store(2, name, UInt32(name.count), 0)
        let offer: Offer = length == 0 ? .isTakenBack : length == -ENOENT ? .isOfAnotherDomain : .stands
        isVoid = offer != .stands
        return offer
    }

    /// Shares anew. The channel of another domain is none that our kernel knows, and closing it would end the kernel (evtchn_unbind_from_user
    /// of drivers/xen/evtchn.c: `BUG_ON(irq < 0)`).
    mutating func renew(_ offer: Offer) {
        if offer == .isOfAnotherDomain { guest_keep_open(descriptor.number) }
        guard let renewed = Port.share(as: name) else {
            console("no memory can be shared with the host again")
            exit(1)
        }
        self = renewed
    }

    /// The same, where whoever is at the other end now goes on with what the last one left.
    mutating func carryOver(_ offer: Offer) {
        let untaken = (try? memory?.untaken()) ?? []  // the host is believed
        renew(offer)
        _ = untaken.withUnsafeBytes { write($0) }
    }

    /// As read(2); 0 when nothing is there.
    mutating func read(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
        guard memory != nil else { return CGuest.read(descriptor.number, buffer.baseAddress, buffer.count) }
        // The host is believed: what it breaks here is its own.
        let got = (try? memory!.read(into: buffer)) ?? 0
        tell()
        return got
    }

    /// As write(2); 0 when there is no room.
    mutating func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard memory != nil else { return CGuest.write(descriptor.number, bytes.baseAddress, bytes.count) }
        let wrote = (try? memory!.write(bytes)) ?? 0  // as above
        tell()
        return wrote
    }

    private mutating func tell() {
        // The channel of one who is gone may be another's now.
        if memory!.takeNotice(), !isVoid { guest_notify(descriptor.number, channel) }
    }

    /// What an event of the descriptor means for the stream.
    borrowing func meaning(_ events: UInt32) -> UInt32 {
        guard memory != nil else { return events }
        guest_take_event(descriptor.number)
        return Ready.input | Ready.output
    }
}
