import CLinux
import Glibc
import Testing

@testable import LinuxSystem

@Suite struct SocketTests {
    init() { Loop.runInBackground() }

    @Loop @Test func descriptorsTravel() async throws {
        let scratch = try Scratch()
        let (a, b) = try makeSocketPair(nonBlocking: true)
        let files = try (0..<3).map { SharedDescriptor(try openFile(try scratch.file("f\($0)", "\($0)"), O_RDONLY)) }
        try await a.send([1, 2], descriptors: files.map(\.raw))
        let (bytes, descriptors) = try await b.receive(capacity: 100)
        #expect(bytes == [1, 2] && descriptors.count == 3)
        for (number, descriptor) in descriptors.enumerated() {
            #expect(try readFile(descriptor.raw, "f") == Array("\(number)".utf8))
            #expect(fcntl(descriptor.raw, F_GETFD) == FD_CLOEXEC)
        }
        // As many as there may be; and none is leaked.
        let before = try listDirectory("/proc/self/fd").count
        let many = [Int32](repeating: files[0].raw, count: 64)
        try await a.send([3], descriptors: many)
        do {
            let (_, received) = try await b.receive(capacity: 100)
            #expect(received.count == 64)
        }
        #expect(try listDirectory("/proc/self/fd").count <= before)
        await #expect(throws: SystemError.self) { try await a.send([4], descriptors: [Int32](repeating: 0, count: 65)) }
    }

    @Loop @Test func muchAndTheEnd() async throws {
        var pair: (SharedDescriptor, SharedDescriptor)? = try makeSocketPair(nonBlocking: true)
        let reader = pair!.1
        let bytes = (0..<(3 << 20)).map { UInt8(truncatingIfNeeded: $0 / 7) }
        let sending = Task { @Loop [writer = pair!.0] in try await writer.send(bytes) }
        pair = nil
        var all: [UInt8] = []
        while true {
            let chunk = try await reader.receive(capacity: 100_000).bytes
            if chunk.isEmpty { break }
            all += chunk
            if all.count == bytes.count { try await sending.value }
        }
        #expect(all == bytes)
    }

    @Loop @Test(arguments: [0, 60, 107, 150, 230]) func pathsOfEveryLength(length: Int) async throws {
        let scratch = try Scratch()
        let folder = "\(scratch.path)/\(String(repeating: "x", count: max(1, length)))"
        try makeDirectories(folder)
        let path = "\(folder)/socket"
        #expect(throws: SystemError.self) { _ = try UnixSocket.connect(path) }
        let listener = try UnixSocket.listen(path)
        let accepting = Task { @Loop in try await UnixSocket.accept(listener) }
        let client = try UnixSocket.connect(path)
        let server = try await accepting.value
        try await client.send([9])
        #expect(try await server.receive(capacity: 10).bytes == [9])
        var status = stat()
        lstat(path, &status)
        #expect(status.st_mode & 0o777 == 0o600)
        // Another one takes its place.
        let second = try UnixSocket.listen(path, mode: 0o666)
        _ = try UnixSocket.connect(path)
        withExtendedLifetime(second) {}
    }

    @Test(
        arguments: [
            ("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("HUP", 1), ("RTMIN", 34), ("SIGRTMIN+3", 37),
            ("RTMAX", 64), ("RTMAX-1", 63), ("64", 64), ("CHLD", 17), ("CLD", 17), ("POLL", 29), ("WINCH", 28),
            ("0", nil), ("65", nil), ("-1", nil), ("", nil), ("SIG", nil), ("FOO", nil), ("SIGSIGTERM", nil), ("RTMIN+31", nil),
            ("RTMIN+", nil), ("RTMAX--1", nil), ("1.5", nil),
        ] as [(String, Int32?)])
    func signalNumbers(name: String, number: Int32?) { #expect(Signals.number(name) == number) }

    @Loop @Test(arguments: [(SOCK_STREAM, false), (SOCK_DGRAM, false), (SOCK_SEQPACKET, true)])
    func kindsAreKnown(_ kind: __socket_type, _ keepsMessagesApart: Bool) throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/it"
        let listener = SharedDescriptor(
            owning: try checked("make a socket") { socket(AF_UNIX, Int32(kind.rawValue) | O_CLOEXEC | O_NONBLOCK, 0) })
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        try checked("bind") {
            withUnsafePointer(to: &address) { hull_bind(listener.raw, $0, UInt32(MemoryLayout<sockaddr_un>.size)) }
        }
        let place = SharedDescriptor(try openFile(path, O_PATH))
        #expect(!UnixSocket.keepsMessagesApart(at: place), "nobody listens yet")
        if kind != SOCK_DGRAM { try checked("listen") { listen(listener.raw, 1) } }
        #expect(UnixSocket.keepsMessagesApart(at: place) == keepsMessagesApart)
        // Those of other kinds have noticed nothing.
        if !keepsMessagesApart, kind == SOCK_STREAM { #expect(accept(listener.raw, nil, nil) < 0 && errno == EAGAIN) }
        withExtendedLifetime(listener) {}
    }
}
