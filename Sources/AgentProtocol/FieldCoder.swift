/// One pass over the fields of a message, to write or to read them.
///
/// The encoding is a list of fields: a varint key (`number << 1 | kind`), then for kind 0 a varint and for kind 1 a
/// varint length and that many bytes. A scalar that is zero and a list that is empty are not written; a number the
/// reader does not know is skipped, so that a newer end may say more to an older one.
public protocol FieldCoder {
    /// Whether the pass has something to do for this field number: always when writing, once per field found when reading.
    func wants(_ number: UInt32) -> Bool
    /// Codes an unsigned number.
    mutating func scalar(_ number: UInt32, _ value: inout UInt64) throws(WireError)
    /// Codes bytes; the writer skips empty ones unless `always`.
    mutating func bytes(_ number: UInt32, _ value: inout [UInt8], always: Bool) throws(WireError)
    /// Codes a message inside this one.
    mutating func message<M: WireMessage>(_ number: UInt32, _ value: inout M) throws(WireError)
    /// Codes a list of messages, one field an element.
    mutating func list<M: WireMessage>(_ number: UInt32, _ values: inout [M]) throws(WireError)
    /// Codes a list of byte strings, one field an element.
    mutating func byteLists(_ number: UInt32, _ values: inout [[UInt8]]) throws(WireError)
    /// Codes a list of numbers, one field an element.
    mutating func scalars(_ number: UInt32, _ values: inout [UInt64]) throws(WireError)
    /// Codes a message that may be absent.
    mutating func optional<M: WireMessage>(_ number: UInt32, _ value: inout M?) throws(WireError)
    /// Codes a number that may be absent.
    mutating func optional(_ number: UInt32, _ value: inout UInt64?) throws(WireError)
    /// Codes a list of strings, one field an element.
    mutating func strings(_ number: UInt32, _ values: inout [String]) throws(WireError)
}

/// A message of the agent protocol: its fields are named once, for writing and reading.
public protocol WireMessage {
    /// The message with every field at its default.
    init()
    /// Passes every field to the coder.
    mutating func fields<C: FieldCoder>(_ coder: inout C) throws(WireError)
}

extension FieldCoder {
    /// Codes an unsigned 32-bit number; a larger one is malformed.
    public mutating func field(_ number: UInt32, _ value: inout UInt32) throws(WireError) {
        guard wants(number) else { return }
        var wide = UInt64(value)
        try scalar(number, &wide)
        guard let narrow = UInt32(exactly: wide) else { throw .malformed }
        value = narrow
    }

    /// Codes an unsigned number.
    public mutating func field(_ number: UInt32, _ value: inout UInt64) throws(WireError) {
        try scalar(number, &value)
    }

    /// Codes a number whose default is not zero: what is not written is the default.
    public mutating func field(_ number: UInt32, _ value: inout UInt32, default usual: UInt32) throws(WireError) {
        guard wants(number) else { return }
        var difference = value ^ usual
        try field(number, &difference)
        value = difference ^ usual
    }

    /// Codes a number whose default is not zero: what is not written is the default.
    public mutating func field(_ number: UInt32, _ value: inout UInt64, default usual: UInt64) throws(WireError) {
        guard wants(number) else { return }
        var difference = value ^ usual
        try field(number, &difference)
        value = difference ^ usual
    }

    /// Codes a signed number, small magnitudes in few bytes.
    public mutating func field(_ number: UInt32, _ value: inout Int64) throws(WireError) {
        guard wants(number) else { return }
        var zigzag = UInt64(bitPattern: (value << 1) ^ (value >> 63))
        try scalar(number, &zigzag)
        value = Int64(bitPattern: (zigzag >> 1)) ^ -Int64(bitPattern: zigzag & 1)
    }

    /// Codes a signed 32-bit number; one out of range is malformed.
    public mutating func field(_ number: UInt32, _ value: inout Int32) throws(WireError) {
        guard wants(number) else { return }
        var wide = Int64(value)
        try field(number, &wide)
        guard let narrow = Int32(exactly: wide) else { throw .malformed }
        value = narrow
    }

    /// Codes a truth value.
    public mutating func field(_ number: UInt32, _ value: inout Bool) throws(WireError) {
        guard wants(number) else { return }
        var wide: UInt64 = value ? 1 : 0
        try scalar(number, &wide)
        value = wide != 0
    }

    /// Codes bytes.
    public mutating func field(_ number: UInt32, _ value: inout [UInt8]) throws(WireError) {
        try bytes(number, &value, always: false)
    }

    /// Codes text; bytes that are not UTF-8 are repaired.
    public mutating func field(_ number: UInt32, _ value: inout String) throws(WireError) {
        guard wants(number) else { return }
        var raw = Array(value.utf8)
        try bytes(number, &raw, always: false)
        value = String(decoding: raw, as: UTF8.self)
    }

    /// Codes one of an enumeration's cases; a number without a case is malformed.
    public mutating func field<E: RawRepresentable>(_ number: UInt32, _ value: inout E) throws(WireError)
    where E.RawValue == UInt64 {
        guard wants(number) else { return }
        var raw = value.rawValue
        try scalar(number, &raw)
        guard let known = E(rawValue: raw) else { throw .malformed }
        value = known
    }

}
