/// Where an entry of a layer goes: parts below the root, checked. Bytes, not text: names may be in any encoding.
struct EntryPath: Equatable {
    /// The path of its folder below the root, without a slash at either end; empty for the root.
    var parent: [UInt8]
    /// The last part; empty only for the root itself.
    var name: [UInt8]

    enum Refusal: Error, Equatable {
        /// A part is `..`.
        case climbs
        /// A part has more than 255 bytes, or all have more than 4095.
        case tooLong
    }

    /// Reads a name as archives have it: `./a/b`, `/a/b` and `a/b/` all mean the same.
    init(_ raw: [UInt8]) throws(Refusal) {
        parent = []
        name = []
        for part in raw.split(separator: UInt8(ascii: "/")) where part != [0x2e] {
            if part == [0x2e, 0x2e] { throw .climbs }
            if part.count > 255 { throw .tooLong }
            if !name.isEmpty {
                if !parent.isEmpty { parent.append(UInt8(ascii: "/")) }
                parent += name
            }
            name = Array(part)
        }
        if parent.count + 1 + name.count > 4095 { throw .tooLong }
    }

    var isRoot: Bool { name.isEmpty }
    var whole: [UInt8] { parent.isEmpty ? name : parent + [UInt8(ascii: "/")] + name }

    /// What a layer's special names mean (image-spec, layer.md, "Whiteouts").
    enum Whiteout: Equatable {
        /// The lower layers' entry of that name goes.
        case remove([UInt8])
        /// All that lower layers have in the folder goes.
        case opaque
        /// Other names with the prefix `.wh..wh.` are a file system's own.
        case ignored
        /// A whiteout of `.`, `..` or nothing.
        case invalid
    }
    var whiteout: Whiteout? {
        let prefix = Array(".wh.".utf8)
        guard name.starts(with: prefix) else { return nil }
        let rest = Array(name.dropFirst(prefix.count))
        if rest == Array(".wh..opq".utf8) { return .opaque }
        if rest.starts(with: prefix) { return .ignored }
        return rest.isEmpty || rest == [0x2e] || rest == [0x2e, 0x2e] ? .invalid : .remove(rest)
    }
}

extension [UInt8] {
    /// Calls `body` with the bytes as a C string.
    func withCString<R, E: Error>(_ body: (UnsafePointer<CChar>) throws(E) -> R) throws(E) -> R {
        let terminated = self + [0]
        let result: Result<R, E> = terminated.withUnsafeBufferPointer { buffer in
            buffer.withMemoryRebound(to: CChar.self) { buffer in
                do throws(E) { return .success(try body(buffer.baseAddress!)) } catch { return .failure(error) }
            }
        }
        return try result.get()
    }
}
