import Glibc
import LinuxSystem
import Testing

@testable import QEMUDriver

/// What is said to a machine that stands by.
@Suite struct AwakePlaceTests {
    /// As `struct request` in awake/hull-awake.c has it, which knows its own size.
    @Test func theLayoutIsTheLibrarys() throws {
        let bytes = try AwakePlace.request([7, 300], root: "/r", name: "hull-x", user: 0x0102_0304)
        #expect(bytes.count == 908)
        #expect(Array(bytes[..<20]) == [1, 0, 0, 0, 2, 0, 0, 0, 4, 3, 2, 1, 7, 0, 0, 0, 44, 1, 0, 0])
        #expect(bytes[20..<268].allSatisfy { $0 == 0 })
        #expect(Array(bytes[268..<271]) == [47, 114, 0])
        #expect(Array(bytes[780..<787]) == Array("hull-x".utf8) + [0])
        let source = try readText(
            "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/awake/hull-awake.c")
        #expect(source.contains("_Static_assert(sizeof(struct request) == 908"))
    }

    @Test(arguments: [(63, 1, 1), (1, 512, 1), (1, 1, 128)]) func whatHasNoRoomIsRefused(_ targets: Int, _ root: Int, _ name: Int)
    {
        #expect(throws: (any Error).self) {
            try AwakePlace.request(
                [Int32](repeating: 3, count: targets), root: String(repeating: "r", count: root),
                name: String(repeating: "n", count: name), user: 1)
        }
    }

    /// A program of the kernel's own form, which the library has room for.
    @Test func theFilterIsOne() throws {
        var status = stat()
        let filter = try AwakePlace.filter()
        #expect(fstat(filter.raw, &status) == 0)
        #expect(status.st_size > 0 && status.st_size % 8 == 0 && status.st_size <= 8 * 1024)
    }

    /// Only QEMU's own descriptors for what a copy gets.
    @Test func whatIsUnknownIsRefused() throws {
        let folder = "/tmp/hull-awake-\(getpid())"
        try makeDirectories(folder)
        defer { try? removeTree(folder) }
        // This process has an epoll instance: the loop's.
        #expect(throws: (any Error).self) {
            try AwakePlace(folder: folder).publish([:], files: [:], own: [], pid: getpid(), version: .null)
        }
    }

    /// One is ready at a time, and each is somebody's.
    @Test func spareMemory() async throws {
        Loop.runInBackground()
        try await Self.takeSpares()
    }

    @Loop private static func takeSpares() async throws {
        let folder = "/tmp/hull-spare-\(getpid())"
        try makeDirectories(folder)
        defer { try? removeTree(folder) }  // in /tmp
        let place = AwakePlace(folder: folder)
        let memory = try AwakePlace.makeMemory(of: 8 << 20)
        try #require(pwrite(memory.raw, "said", 4, 5 << 20) == 4)
        let keeping = Task { @Loop in try await place.keepSpare(of: memory, bytes: 8 << 20) }
        defer { keeping.cancel() }
        var taken: [SharedDescriptor] = []
        for _ in 0..<2 {
            let deadline = ContinuousClock.now + .seconds(10)
            var spare: SharedDescriptor?
            while spare == nil, ContinuousClock.now < deadline {
                try await sleep(for: .milliseconds(10))
                // Not one of another size.
                #expect(place.takeSpare(of: 4 << 20) == nil)
                spare = place.takeSpare(of: 8 << 20)
            }
            taken.append(try #require(spare))
            #expect(place.takeSpare(of: 8 << 20) == nil)
            var words = [UInt8](repeating: 0, count: 4)
            #expect(pread(taken.last!.raw, &words, 4, 5 << 20) == 4 && words == Array("said".utf8))
            #expect(pwrite(taken.last!.raw, "mine", 4, 5 << 20) == 4)
        }
        keeping.cancel()
        // A note of what is no memory of a keeper's, and one of a keeper that has ended.
        for text in ["self/fd/0 1", "1/fd/0 1", "99999999/fd/3 7", "", "../etc/passwd 3"] {
            try replaceFile("\(folder)/spare-9", Array(text.utf8))
            let wrong = place.takeSpare(of: 8 << 20)
            #expect(wrong == nil, "\(text)")
        }
    }
}
