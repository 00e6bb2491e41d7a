/// Writes the fields of a message (see `FieldCoder` for the encoding).
public struct FieldWriter: FieldCoder {
    /// What was written so far.
    public private(set) var output: [UInt8] = []

    /// An empty writer.
    public init() {}

    public func wants(_ number: UInt32) -> Bool { true }

    public mutating func scalar(_ number: UInt32, _ value: inout UInt64) throws(WireError) {
        guard value != 0 else { return }
        put(number, value)
    }

    public mutating func bytes(_ number: UInt32, _ value: inout [UInt8], always: Bool) throws(WireError) {
        guard always || !value.isEmpty else { return }
        put(number, value)
    }

    public mutating func message<M: WireMessage>(_ number: UInt32, _ value: inout M) throws(WireError) {
        var inner = FieldWriter()
        try value.fields(&inner)
        put(number, inner.output)
    }

    public mutating func list<M: WireMessage>(_ number: UInt32, _ values: inout [M]) throws(WireError) {
        for index in values.indices { try message(number, &values[index]) }
    }

    public mutating func byteLists(_ number: UInt32, _ values: inout [[UInt8]]) throws(WireError) {
        for value in values { put(number, value) }
    }

    public mutating func scalars(_ number: UInt32, _ values: inout [UInt64]) throws(WireError) {
        for value in values { put(number, value) }
    }

    public mutating func optional<M: WireMessage>(_ number: UInt32, _ value: inout M?) throws(WireError) {
        guard var present = value else { return }
        try message(number, &present)
    }

    public mutating func optional(_ number: UInt32, _ value: inout UInt64?) throws(WireError) {
        guard let value else { return }
        put(number, value)
    }

    public mutating func strings(_ number: UInt32, _ values: inout [String]) throws(WireError) {
        for value in values { put(number, Array(value.utf8)) }
    }

    private mutating func put(_ number: UInt32, _ value: UInt64) {
        varint(UInt64(number) << 1)
        varint(value)
    }

    private mutating func put(_ number: UInt32, _ value: [UInt8]) {
        varint(UInt64(number) << 1 | 1)
        varint(UInt64(value.count))
        output.append(contentsOf: value)
    }

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            output.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        output.append(UInt8(truncatingIfNeeded: rest))
    }
}

extension WireMessage {
    /// The message's bytes.
    public func encoded() -> [UInt8] {
        var copy = self
        var writer = FieldWriter()
        do throws(WireError) {
            try copy.fields(&writer)
        } catch {
            // A writer accepts every value that its own types can hold; only readers refuse.
            fatalError("a message could not be written")
        }
        return writer.output
    }

    /// Reads a message, with its lists together at most `elements` long.
    public init(decoding bytes: [UInt8], elements: Int = 65536) throws(WireError) {
        self.init()
        var reader = FieldReader(bytes, elements: elements)
        try reader.readAll(into: &self)
    }
}
