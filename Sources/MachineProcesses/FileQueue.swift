import Synchronization

/// A split virtqueue (virtio 1.2, 2.7) between us, in the place of a guest's driver, and a server: a few slots, each with room for one request
/// and its answer. The server is not believed: what it says of a slot is checked, and bytes are copied once. Pure, but for the memory.
package struct FileQueue {
    /// Requests that can be under way.
    package static let slots = 16
    /// Entries of the queue: two for each slot, what the server reads and what it writes.
    static let size = 2 * slots
    /// Bytes of memory that it takes, of which those are used that were needed: low slots first.
    package static let bytes = buffers + 2 * slots * FileMessage.limit
    static let available = 1024
    static let used = 2048
    private static let buffers = 4096

    /// What the server did wrong.
    package struct Broken: Error {}

    private let memory: UnsafeMutableRawPointer
    private var free = Array((0..<slots).reversed())
    private var isBusy = [Bool](repeating: false, count: slots)
    private var isFirst = [Bool](repeating: false, count: slots)
    private var given: UInt16 = 0
    private var taken: UInt16 = 0

    /// A queue in memory that holds zeros only. The server finds the slots at `base` and what follows.
    package init(_ memory: UnsafeMutableRawPointer, at base: UInt64) {
        self.memory = memory
        for entry in 0..<Self.size {
            let place = memory + 16 * entry
            place.storeBytes(of: base + UInt64(Self.buffers + entry * FileMessage.limit), as: UInt64.self)
            place.storeBytes(of: UInt32(FileMessage.limit), toByteOffset: 8, as: UInt32.self)
            // VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE.
            place.storeBytes(of: entry % 2 == 0 ? 1 : 2, toByteOffset: 12, as: UInt16.self)
            place.storeBytes(of: entry % 2 == 0 ? UInt16(entry + 1) : 0, toByteOffset: 14, as: UInt16.self)
        }
    }

    /// Whether another request can be given.
    package var hasRoom: Bool { !free.isEmpty }
    /// The number of the next request, as the server counts them.
    var next: UInt16 { given }
    /// Whether the server is done with all that it was given, and all of that was taken.
    package var isIdle: Bool { free.count == Self.slots }

    /// Gives the server a request, for which there must be room; it is to be told.
    package mutating func give(_ request: ArraySlice<UInt8>) {
        guard let slot = free.popLast() else { preconditionFailure("no slot is free") }
        isBusy[slot] = true
        isFirst[slot] = FileMessage.isFirst(request)
        let entry = 2 * slot
        request.withUnsafeBytes {
            (memory + Self.buffers + entry * FileMessage.limit).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
        }
        (memory + 16 * entry).storeBytes(of: UInt32(request.count), toByteOffset: 8, as: UInt32.self)
        (memory + 16 * (entry + 1)).storeBytes(of: UInt32(FileMessage.answerLimit(request)), toByteOffset: 8, as: UInt32.self)
        (memory + Self.available + 4).storeBytes(of: UInt16(entry), toByteOffset: 2 * (Int(given) % Self.size), as: UInt16.self)
        given &+= 1
        index(Self.available).pointee.store(given, ordering: .sequentiallyConsistent)
    }

    /// Takes the next request that the server is done with; nil when there is none. Its answer is empty where it gets none.
    package mutating func take() throws -> [UInt8]? {
        let done = index(Self.used).pointee.load(ordering: .sequentiallyConsistent)
        guard done != taken else { return nil }
        let place = memory + Self.used + 4 + 8 * (Int(taken) % Self.size)
        let entry = place.load(as: UInt32.self)
        let count = place.load(fromByteOffset: 4, as: UInt32.self)
        guard entry % 2 == 0, entry < Self.size, isBusy[Int(entry / 2)], count <= FileMessage.limit else { throw Broken() }
        let slot = Int(entry / 2)
        taken &+= 1
        isBusy[slot] = false
        free.append(slot)
        guard count > 0 else { return [] }
        let answer = Array(
            UnsafeRawBufferPointer(start: memory + Self.buffers + (2 * slot + 1) * FileMessage.limit, count: Int(count)))
        return try FileMessage.answer(answer, toFirst: isFirst[slot])
    }

    private func index(_ ring: Int) -> UnsafeMutablePointer<Atomic<UInt16>> {
        (memory + ring + 2).assumingMemoryBound(to: Atomic<UInt16>.self)
    }
}
