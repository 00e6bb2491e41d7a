/// Reads the fields of a message (see `FieldCoder` for the encoding), trusting no length.
public struct FieldReader: FieldCoder {
    private let source: [UInt8]
    private var position: Int
    private let end: Int
    /// How many more list elements the whole message may hold, so that few bytes cannot become much memory.
    private var elements: Int
    private var depth: Int

    private var number: UInt32 = 0
    private var isBytes = false
    private var value: UInt64 = 0
    private var start = 0

    /// A reader of all of `source`, accepting this many list elements.
    public init(_ source: [UInt8], elements: Int) {
        self.source = source
        position = 0
        end = source.count
        self.elements = elements
        depth = 0
    }

    private init(_ source: [UInt8], from: Int, to: Int, elements: Int, depth: Int) {
        self.source = source
        position = from
        end = to
        self.elements = elements
        self.depth = depth
    }

    /// Reads every field into `message`; unknown ones are skipped.
    public mutating func readAll<M: WireMessage>(into message: inout M) throws(WireError) {
        while position < end {
            let key = try varint()
            guard let number = UInt32(exactly: key >> 1), number != 0 else { throw .malformed }
            self.number = number
            isBytes = key & 1 != 0
            value = try varint()
            if isBytes {
                guard value <= UInt64(end - position) else { throw .truncated }
                start = position
                position += Int(value)
            }
            try message.fields(&self)
        }
    }

    public func wants(_ number: UInt32) -> Bool { number == self.number }

    public mutating func scalar(_ number: UInt32, _ value: inout UInt64) throws(WireError) {
        guard wants(number) else { return }
        guard !isBytes else { throw .malformed }
        value = self.value
    }

    public mutating func bytes(_ number: UInt32, _ value: inout [UInt8], always: Bool) throws(WireError) {
        guard wants(number) else { return }
        value = try currentBytes()
    }

    public mutating func message<M: WireMessage>(_ number: UInt32, _ value: inout M) throws(WireError) {
        guard wants(number) else { return }
        guard isBytes, depth < 8 else { throw .malformed }
        var inner = FieldReader(source, from: start, to: position, elements: elements, depth: depth + 1)
        try inner.readAll(into: &value)
        elements = inner.elements
    }

    public mutating func list<M: WireMessage>(_ number: UInt32, _ values: inout [M]) throws(WireError) {
        guard wants(number) else { return }
        try countElement()
        var element = M()
        try message(number, &element)
        values.append(element)
    }

    public mutating func byteLists(_ number: UInt32, _ values: inout [[UInt8]]) throws(WireError) {
        guard wants(number) else { return }
        try countElement()
        values.append(try currentBytes())
    }

    public mutating func scalars(_ number: UInt32, _ values: inout [UInt64]) throws(WireError) {
        guard wants(number) else { return }
        guard !isBytes else { throw .malformed }
        try countElement()
        values.append(value)
    }

    public mutating func optional<M: WireMessage>(_ number: UInt32, _ value: inout M?) throws(WireError) {
        guard wants(number) else { return }
        var present = M()
        try message(number, &present)
        value = present
    }

    public mutating func optional(_ number: UInt32, _ value: inout UInt64?) throws(WireError) {
        guard wants(number) else { return }
        guard !isBytes else { throw .malformed }
        value = self.value
    }

    public mutating func strings(_ number: UInt32, _ values: inout [String]) throws(WireError) {
        guard wants(number) else { return }
        try countElement()
        values.append(String(decoding: try currentBytes(), as: UTF8.self))
    }

    private func currentBytes() throws(WireError) -> [UInt8] {
        guard isBytes else { throw .malformed }
        return Array(source[start..<position])
    }

    private mutating func countElement() throws(WireError) {
        guard elements > 0 else { throw .tooManyElements }
        elements -= 1
    }

    private mutating func varint() throws(WireError) -> UInt64 {
        var result: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            guard position < end else { throw .truncated }
            let byte = source[position]
            position += 1
            if shift == 63, byte > 1 { throw .malformed }
            result |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return result }
            shift += 7
            if shift > 63 { throw .malformed }
        }
    }
}
