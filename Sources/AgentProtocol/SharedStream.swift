import Synchronization

/// One end of a byte stream in memory that two machines share: two rings and four bytes that say who wants to be told of what.
///
/// The memory is laid out as Xen's vchan has it (xen/include/public/io/libxenvchan.h): one page with the indexes, the flags and the
/// references of all the other pages; then the pages of `left`, which the client writes, and of `right`, which the server writes. Both rings
/// have the same size here. The other end is not believed: an index that cannot be throws, and bytes are copied once.
///
/// Each end tells the other by an event of the hypervisor's, when `takeNotice()` says so; after each event both directions are tried again.
public struct SharedStream {
    /// Bytes of a page.
    public static let page = 4096
    /// The binary logarithm of a ring's size in bytes.
    public static let order: UInt16 = 16
    /// Bytes of each ring.
    public static let size = 1 << Int(order)
    /// Pages of both rings.
    public static let ringPages = 2 * size / page
    /// The field of the first page where the references of the others begin.
    public static let referencesOffset = 24

    private enum Field {
        static let left = 0
        static let right = 8
        static let leftOrder = 16
        static let rightOrder = 18
        static let clientLives = 20
        static let serverLives = 21
        // What the client, or the server, is to tell the other of.
        static let clientTells = 22
        static let serverTells = 23
    }
    private enum Telling {
        static let written: UInt8 = 1
        static let read: UInt8 = 2
    }

    private let head: UnsafeMutableRawPointer
    private let incoming: UnsafeMutableRawPointer
    private let outgoing: UnsafeMutableRawPointer
    private let isServer: Bool
    // Our own indexes are kept here: what stands in the memory is only for the other end.
    private var consumed: UInt32
    private var produced: UInt32
    private var owesNotice = false

    /// Lays the memory out, whose first page is `head` and whose rings are at `rings`, one behind the other. The other pages' references
    /// follow at `referencesOffset`, which the caller writes.
    public init(serving head: UnsafeMutableRawPointer, rings: UnsafeMutableRawPointer) {
        head.initializeMemory(as: UInt8.self, repeating: 0, count: Self.referencesOffset)
        head.storeBytes(of: Self.order, toByteOffset: Field.leftOrder, as: UInt16.self)
        head.storeBytes(of: Self.order, toByteOffset: Field.rightOrder, as: UInt16.self)
        head.storeBytes(of: 2, toByteOffset: Field.clientLives, as: UInt8.self)
        head.storeBytes(of: 1, toByteOffset: Field.serverLives, as: UInt8.self)
        head.storeBytes(of: Telling.written, toByteOffset: Field.clientTells, as: UInt8.self)
        head.storeBytes(of: Telling.written, toByteOffset: Field.serverTells, as: UInt8.self)
        self.head = head
        incoming = rings
        outgoing = rings + Self.size
        isServer = true
        consumed = 0
        produced = 0
    }

    /// The client's end of memory that a server laid out. Throws when its rings are not of this size.
    public init(joining head: UnsafeMutableRawPointer, rings: UnsafeMutableRawPointer) throws(WireError) {
        guard head.load(fromByteOffset: Field.leftOrder, as: UInt16.self) == Self.order,
            head.load(fromByteOffset: Field.rightOrder, as: UInt16.self) == Self.order
        else { throw .malformed }
        self.head = head
        incoming = rings + Self.size
        outgoing = rings
        isServer = false
        consumed = 0
        produced = 0
        head.storeBytes(of: 1, toByteOffset: Field.clientLives, as: UInt8.self)
    }

    /// Copies as many of the bytes as there is room for; 0 when there is none, and then the other end will tell when there is.
    public mutating func write(_ bytes: UnsafeRawBufferPointer) throws(WireError) -> Int {
        var room = try room()
        if room < bytes.count {
            // Asked for before looking once more, so that no reading in between goes by untold.
            ask(Telling.read)
            room = try self.room()
        }
        let count = min(room, bytes.count)
        guard count > 0, let source = bytes.baseAddress else { return 0 }
        let start = Int(produced) & (Self.size - 1)
        let first = min(count, Self.size - start)
        (outgoing + start).copyMemory(from: source, byteCount: first)
        if count > first { outgoing.copyMemory(from: source + first, byteCount: count - first) }
        produced &+= UInt32(count)
        index(isServer ? Field.right : Field.left, 4).pointee.store(produced, ordering: .sequentiallyConsistent)
        tell(Telling.written)
        return count
    }

    /// Copies what is there, as far as it fits; 0 when nothing is, and then the other end will tell when something is.
    public mutating func read(into buffer: UnsafeMutableRawBufferPointer) throws(WireError) -> Int {
        var there = try there()
        if there < buffer.count {
            ask(Telling.written)
            there = try self.there()
        }
        let count = min(there, buffer.count)
        guard count > 0, let target = buffer.baseAddress else { return 0 }
        let start = Int(consumed) & (Self.size - 1)
        let first = min(count, Self.size - start)
        target.copyMemory(from: incoming + start, byteCount: first)
        if count > first { (target + first).copyMemory(from: incoming, byteCount: count - first) }
        consumed &+= UInt32(count)
        index(isServer ? Field.left : Field.right, 0).pointee.store(consumed, ordering: .sequentiallyConsistent)
        tell(Telling.read)
        return count
    }

    /// What was written and the other end has not taken, for whoever goes on with another one; it stays where it is.
    public func untaken() throws(WireError) -> [UInt8] {
        let count = Self.size - (try room())
        let start = Int(produced &- UInt32(count)) & (Self.size - 1)
        let first = min(count, Self.size - start)
        return Array(UnsafeRawBufferPointer(start: outgoing + start, count: first))
            + Array(UnsafeRawBufferPointer(start: outgoing, count: count - first))
    }

    /// Whether the other end must be told by an event, since this was asked last.
    public mutating func takeNotice() -> Bool {
        defer { owesNotice = false }
        return owesNotice
    }

    /// Whether the other end is there. A client may not have come yet; who has gone does not come again.
    public enum Presence: Sendable { case awaited, here, gone }
    /// Where the other end is now; it tells of a change by an event.
    public var otherEnd: Presence {
        switch flags(isServer ? Field.clientLives : Field.serverLives).pointee.load(ordering: .sequentiallyConsistent) {
        case 0: .gone
        case 1: .here
        default: .awaited
        }
    }

    /// Says that this end goes; the other one must be told by an event.
    public func leave() {
        flags(isServer ? Field.serverLives : Field.clientLives).pointee.store(0, ordering: .sequentiallyConsistent)
    }

    private func room() throws(WireError) -> Int {
        let taken = index(isServer ? Field.right : Field.left, 0).pointee.load(ordering: .sequentiallyConsistent)
        let used = produced &- taken
        guard used <= UInt32(Self.size) else { throw .wrongOffset }
        return Self.size - Int(used)
    }

    private func there() throws(WireError) -> Int {
        let given = index(isServer ? Field.left : Field.right, 4).pointee.load(ordering: .sequentiallyConsistent)
        let count = given &- consumed
        guard count <= UInt32(Self.size) else { throw .wrongOffset }
        return Int(count)
    }

    /// The index that its reader moves, or with an offset of 4 its writer.
    private func index(_ ring: Int, _ offset: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
        (head + ring + offset).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    private func flags(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt8>> {
        (head + offset).assumingMemoryBound(to: Atomic<UInt8>.self)
    }

    /// Asks the other end to tell of something.
    private func ask(_ what: UInt8) {
        flags(isServer ? Field.clientTells : Field.serverTells).pointee.bitwiseOr(what, ordering: .sequentiallyConsistent)
    }

    /// Tells the other end, if it asked; it is asked anew then.
    private mutating func tell(_ what: UInt8) {
        let own = flags(isServer ? Field.serverTells : Field.clientTells)
        let before = own.pointee.bitwiseAnd(~what, ordering: .sequentiallyConsistent).oldValue
        if before & what != 0 { owesNotice = true }
    }
}
