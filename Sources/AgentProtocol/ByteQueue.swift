/// Bytes waiting to be written, first in first out, in one piece of memory.
public struct ByteQueue: Sendable {
    private var storage: [UInt8] = []
    private var head = 0

    /// An empty queue.
    public init() {}

    /// How many bytes wait.
    public var count: Int { storage.count - head }

    /// Whether none waits.
    public var isEmpty: Bool { head == storage.count }

    /// Adds bytes at the end.
    public mutating func append(_ bytes: [UInt8]) {
        compact()
        storage.append(contentsOf: bytes)
    }

    /// Adds bytes at the end.
    public mutating func append(_ bytes: UnsafeRawBufferPointer) {
        compact()
        storage.append(contentsOf: bytes)
    }

    /// Shows the waiting bytes to `body`, which returns how many it took; those are gone then. Returns what `body` did.
    public mutating func drain(_ body: (UnsafeRawBufferPointer) -> Int) -> Int {
        let start = head
        let taken = storage.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[start...])) }
        if taken > 0 { head += min(taken, count) }
        if head == storage.count {
            head = 0
            if storage.capacity > 1 << 18 { storage = [] } else { storage.removeAll(keepingCapacity: true) }
        }
        return taken
    }

    /// Forgets every byte.
    public mutating func removeAll() {
        storage = []
        head = 0
    }

    private mutating func compact() {
        if head > 65536, head > storage.count / 2 {
            storage.removeSubrange(0..<head)
            head = 0
        }
    }
}
