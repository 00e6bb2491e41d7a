/// The messages of Linux's file systems in user space (include/uapi/linux/fuse.h), as far as one who carries them must know them. Pure. All
/// numbers are little-endian: so are the machines that we run on.
package enum FileMessage {
    /// The most bytes of a message in either direction. The guest's kernel is told of the limits that follow from it.
    package static let limit = dataLimit + 4096
    /// The most bytes that a guest writes, or reads, in one message.
    static let dataLimit = 128 << 10
    /// `struct fuse_in_header`.
    static let requestHeader = 40
    /// `struct fuse_out_header`.
    static let answerHeader = 16

    /// What breaks a rule of the protocol.
    package struct Malformed: Error {}

    private enum Operation {
        static let read: UInt32 = 15
        static let initialise: UInt32 = 26
        static let interrupt: UInt32 = 36
    }

    /// The length of the request of which these are the first bytes; nil when there are too few of them. Throws for one that cannot be.
    package static func requestLength(_ bytes: ArraySlice<UInt8>) throws(Malformed) -> Int? {
        guard bytes.count >= 4 else { return nil }
        let length = Int(number(bytes, 0))
        guard (requestHeader...limit).contains(length) else { throw Malformed() }
        return length
    }

    /// The answer to a request that the server is not asked: one to interrupt another. No server that is meant here can, and a kernel that is told so
    /// (ENOSYS) asks no more.
    static func ownAnswer(_ request: ArraySlice<UInt8>) -> [UInt8]? {
        guard number(request, 4) == Operation.interrupt else { return nil }
        var answer = [UInt8](repeating: 0, count: answerHeader)
        put(UInt32(answerHeader), in: &answer, at: 0)
        put(UInt32(bitPattern: -38), in: &answer, at: 4)
        answer.replaceSubrange(8..<16, with: request[request.startIndex + 8..<request.startIndex + 16])
        return answer
    }

    /// Whether a request is the first one, which settles what both sides can.
    static func isFirst(_ request: ArraySlice<UInt8>) -> Bool { number(request, 4) == Operation.initialise }

    /// The most bytes of the answer to a request. A server reads from a file as much as there is room for, whatever was asked.
    static func answerLimit(_ request: ArraySlice<UInt8>) -> Int {
        // struct fuse_read_in: the file, the offset, the size.
        guard number(request, 4) == Operation.read, request.count >= requestHeader + 20 else { return limit }
        return answerHeader + min(dataLimit, Int(number(request, requestHeader + 16)))
    }

    /// What the server wrote, made ready for the guest. Throws where it is not one whole answer.
    static func answer(_ bytes: [UInt8], toFirst: Bool) throws(Malformed) -> [UInt8] {
        guard bytes.count >= answerHeader, Int(number(bytes[...], 0)) == bytes.count else { throw Malformed() }
        guard toFirst, bytes.count >= answerHeader + 32 else { return bytes }
        var bytes = bytes
        // struct fuse_init_out: max_write, and the pages of one request.
        put(min(number(bytes[...], answerHeader + 20), UInt32(dataLimit)), in: &bytes, at: answerHeader + 20)
        let pages = UInt16(dataLimit / 4096)
        let given = UInt16(bytes[answerHeader + 28]) | UInt16(bytes[answerHeader + 29]) << 8
        bytes[answerHeader + 28] = UInt8(min(given, pages))
        bytes[answerHeader + 29] = 0
        return bytes
    }

    private static func number(_ bytes: ArraySlice<UInt8>, _ offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[bytes.startIndex + offset + $1]) << (8 * UInt32($1)) }
    }

    private static func put(_ value: UInt32, in bytes: inout [UInt8], at offset: Int) {
        for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt32(index))) }
    }
}
