/// Amounts as Docker's command line takes them: `512m`, `1.5g`, `64KiB`, `1024`; units are powers of 1024.
public enum ByteCount {
    /// The number of bytes; nil for what is no amount.
    public static func parse(_ text: String) -> UInt64? {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let number = Double(digits), number >= 0 else { return nil }
        var unit = text.dropFirst(digits.count).lowercased()
        if unit.hasSuffix("ib") { unit.removeLast(2) } else if unit.hasSuffix("b") { unit.removeLast() }
        let shifts = ["": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50]
        guard let shift = shifts[unit] else { return nil }
        let bytes = number * Double(UInt64(1) << shift)
        guard bytes < Double(UInt64.max) else { return nil }
        return UInt64(bytes)
    }

    /// For people: `1.5GB`, decimal as Docker's tables have it.
    public static func format(_ bytes: UInt64) -> String {
        var value = Double(bytes)
        for unit in ["B", "kB", "MB", "GB", "TB"] {
            if value < 1000 || unit == "TB" {
                let rounded =
                    value < 10
                    ? (value * 100).rounded() / 100
                    : value < 100 ? (value * 10).rounded() / 10 : value.rounded()
                return rounded == rounded.rounded() ? "\(Int(rounded))\(unit)" : "\(rounded)\(unit)"
            }
            value /= 1000
        }
        return "\(bytes)B"
    }
}
