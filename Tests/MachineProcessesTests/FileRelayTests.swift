import CLinux
import Foundation
import Glibc
import LinuxSystem
import Machines
import Testing

@testable import MachineProcesses

/// A share server whose files this machine's own kernel asks for, by FUSE and the relay: what a domain's does.
@Suite(.serialized, .enabled(if: getuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0 && ShareServerProgram.find() != nil))
struct FileRelayTests {
    @Test("Files, owners, sizes, and what must not be written")
    func files() async throws {
        Loop.runInBackground()
        try await Self.run()
    }

    @Loop static func run() async throws {
        let served = try await Served()
        let folder = served.folder
        try await served.run(
            """
            echo hello >0/new; cat 0/new; chown 5:6 0/new; ln 0/new 0/twin
            dd if=/dev/urandom of=0/big bs=1M count=20 2>/dev/null; cmp 0/big \(folder)/open/big
            head -c 3000000 /dev/urandom >\(folder)/open/other; cmp 0/other \(folder)/open/other
            mkdir 0/many; for i in $(seq 300); do echo $i >0/many/$i; done; ls 0/many | wc -l
            cat 1/secret; stat -c '%u %g' 1/secret; stat -c '%u %g %h' 0/new
            ! echo no >1/new
            rm -r 0/many; ls 0
            """)
        let said = try readText("\(folder)/output")
        #expect(said.contains("hello\n300\nclosed\n1000 1001\n5 6 2\n"), "\(said)")
        #expect(said.contains("new: Read-only file system"), "\(said)")
        #expect(said.hasSuffix("big\nnew\nother\ntwin\n"), "\(said)")
        try await served.end()
    }

    @Test("Another server goes on with what the guest knows of files, and with a request that was half there")
    func saved() async throws {
        Loop.runInBackground()
        try await Self.save()
    }

    @Loop static func save() async throws {
        let served = try await Served()
        let folder = served.folder
        // A file that is half written and one that is half read stay open, and a folder is somebody's.
        let before = try served.start(
            """
            mkdir -p 0/deep/er; seq 100000 >0/deep/er/numbers
            exec 3>0/half 4<0/deep/er/numbers; echo one >&3; read -r first <&4; cd 0/deep/er
            >\(folder)/ready; until test -e \(folder)/go; do sleep 0.02; done
            echo two >&3; echo $first $(cat <&4 | wc -l); wc -l <numbers; echo three >third; pwd -P
            """)
        try await until { exists("\(folder)/ready") }
        // What is asked while it is saved waits, and does not get lost: so does the first half of a request.
        try await served.relay.hold()
        let waiting = try served.start("ls 0; echo late >0/late")
        try await sleep(for: .milliseconds(100))
        #expect(!exists("\(folder)/open/late"))
        var files = try await served.relay.save()
        // The server goes on as if nothing had been.
        served.relay.goOn()
        #expect(try await served.finished(waiting) == .code(0))
        #expect(try readText("\(folder)/open/late") == "late\n")

        try await served.relay.hold()
        files = try await served.relay.save()
        let late = try served.start("cat 0/half; ls 0/deep/er >/dev/null")
        try await sleep(for: .milliseconds(100))
        files.part = try #require(try served.stream.take(atMost: 10))
        #expect(files.part.count == 10)
        try await served.exchange(files)
        #expect(try await served.finished(late) == .code(0))
        try writeFile("\(folder)/go", [], flags: O_WRONLY | O_CREAT)
        #expect(try await served.finished(before) == .code(0))
        let said = try readText("\(folder)/output")
        #expect(said.hasSuffix("1 99999\n100000\n\(folder)/mounted/0/deep/er\n"), "\(said)")
        #expect(try readText("\(folder)/open/half") == "one\ntwo\n")
        #expect(try readText("\(folder)/open/deep/er/third") == "three\n")
        try await served.end()
    }

    @Test("What is no state of a server is refused")
    func wrong() async throws {
        Loop.runInBackground()
        try await Self.refuse()
    }

    @Loop static func refuse() async throws {
        let served = try await Served()
        let junk = try makeMemoryFile("junk")
        try writeFile(junk.raw, "junk", [UInt8](repeating: 7, count: 1000))
        lseek(junk.raw, 0, SEEK_SET)
        try await served.relay.hold()
        await #expect(throws: MachineError.self) { try await served.exchange(FileRelay.Saved(part: [], server: junk)) }
        try await served.end()
    }

    @Test("Who broke the rules cannot be held, and neither can who is not carried any more", .timeLimit(.minutes(1)))
    func broken() async throws {
        Loop.runInBackground()
        try await Self.breakRules()
    }

    @Loop static func breakRules() async throws {
        let served = try await Served()
        try await served.say([UInt8](repeating: 0xFF, count: 40))
        await #expect(throws: FileMessage.Malformed.self) { try await served.ended() }
        await #expect(throws: FileMessage.Malformed.self) { try await served.relay.hold() }
        try await served.end()
    }

    @Loop static func until(_ isThere: () throws -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while try !isThere() {
            guard ContinuousClock.now < deadline else { throw SystemError("wait", code: ETIMEDOUT) }
            try await sleep(for: .milliseconds(10))
        }
    }
}

/// A folder that can be written to (`0`) and one that cannot (`1`), served and mounted.
@Loop
final class Served {
    let folder: String
    private(set) var relay: FileRelay
    let stream: SocketStream
    private var server: ShareServer
    private var waiting: Task<LinuxSystem.ExitStatus, any Error>
    private var listening: Task<Void, Never>
    private var carrying: Task<Void, any Error>
    private let device: SharedDescriptor
    private let guest: SharedDescriptor

    init() async throws {
        var template = Array("/tmp/hull-relay-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("make a folder") }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        for name in ["open", "closed", "machine", "mounted"] { try makeDirectories("\(folder)/\(name)", mode: 0o755) }
        try writeFile("\(folder)/closed/secret", Array("closed\n".utf8), flags: O_WRONLY | O_CREAT, mode: 0o600)
        chown("\(folder)/closed/secret", 1000, 1001)
        let ends = try makeSocketPair()
        guest = ends.0
        stream = SocketStream(ends.1)
        try setNonBlocking(ends.1.raw)
        (server, waiting, listening, relay) = try await Self.serve(folder, from: nil)
        carrying = Task { @Loop [relay, stream] in try await relay.carry(stream) }

        device = SharedDescriptor(try openFile("/dev/fuse", O_RDWR))
        try mountFilesystem(
            "hull", "\(folder)/mounted", type: "fuse",
            data: "fd=\(device.raw),rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions")
        let (from, to) = (device.raw, guest.raw)
        Thread.detachNewThread { Self.pumpRequests(from, to) }
        Thread.detachNewThread { Self.pumpAnswers(to, from) }
    }

    private static func serve(_ folder: String, from saved: FileRelay.Saved?) async throws -> (
        ShareServer, Task<LinuxSystem.ExitStatus, any Error>, Task<Void, Never>, FileRelay
    ) {
        let share = Share(
            tag: "hull",
            entries: [
                ShareEntry(name: "0", hostPath: "\(folder)/open"),
                ShareEntry(name: "1", hostPath: "\(folder)/closed", readOnly: true),
            ])
        let server = try ShareServer(
            share, try #require(ShareServerProgram.find()), isRestored: saved != nil,
            confinement: Confinement(uidBase: 0x3700_0000), in: MachineDirectory("\(folder)/machine"))
        let waiting = Task { @Loop in try await server.process.child.wait() }
        let listening = Task { @Loop in await server.process.listen() }
        try server.release()
        do {
            let relay = try await FileRelay(server.connection, from: saved)
            try server.emptyRoot()
            return (server, waiting, listening, relay)
        } catch {
            server.kill()
            _ = try await waiting.value
            listening.cancel()
            try server.remove()
            throw error
        }
    }

    /// Ends the server, and has another one go on.
    func exchange(_ saved: FileRelay.Saved) async throws {
        carrying.cancel()
        _ = await carrying.result
        try await endServer()
        (server, waiting, listening, relay) = try await Self.serve(folder, from: saved)
        carrying = Task { @Loop [relay, stream] in try await relay.carry(stream) }
    }

    private func endServer() async throws {
        server.kill()
        _ = try await waiting.value
        listening.cancel()
        try server.remove()
        #expect(try listDirectory("\(folder)/machine") == [])
    }

    /// Starts commands in what is mounted; what they say goes behind what others said.
    func start(_ script: String) throws -> ChildProcess {
        let output = SharedDescriptor(try openFile("\(folder)/output", O_WRONLY | O_CREAT | O_APPEND))
        var how = Spawn("/bin/bash", ["-c", "set -e; cd \(folder)/mounted\n\(script)"])
        how.descriptors = [(output, 1), (output, 2)]
        return try how.spawn()
    }

    func finished(_ child: ChildProcess) async throws -> LinuxSystem.ExitStatus {
        try await withDeadline(.seconds(60), awaiting: "the end of the commands") { try await child.wait() }
    }

    func run(_ script: String) async throws {
        let status = try await finished(try start(script))
        let said = try readText("\(folder)/output")
        #expect(status == .code(0), "\(said)")
    }

    /// What a guest would say.
    func say(_ bytes: [UInt8]) async throws { try await writeAll(guest.raw, bytes) }

    /// Waits for the end of the carrying.
    func ended() async throws { try await carrying.value }

    func end() async throws {
        umount2("\(folder)/mounted", 2 /* MNT_DETACH */)
        shutdown(stream.socket.raw, Int32(SHUT_RDWR))
        _ = await carrying.result
        if server.process.identity.isAlive { try await endServer() }
        try removeTree(folder)
    }

    private nonisolated static func pumpRequests(_ device: Int32, _ socket: Int32) {
        var buffer = [UInt8](repeating: 0, count: FileMessage.limit)
        while true {
            let count = read(device, &buffer, buffer.count)
            if count < 0, errno == EINTR || errno == ENOENT { continue }
            guard count > 0, pushed(socket, buffer, count) else { return }
        }
    }

    private nonisolated static func pumpAnswers(_ socket: Int32, _ device: Int32) {
        var buffer = [UInt8](repeating: 0, count: FileMessage.limit)
        func fill(_ range: Range<Int>) -> Bool {
            var done = range.lowerBound
            while done < range.upperBound {
                let count = buffer.withUnsafeMutableBytes { read(socket, $0.baseAddress! + done, range.upperBound - done) }
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
        while fill(0..<16) {
            let length = Int(buffer.withUnsafeBytes { $0.load(as: UInt32.self) })
            guard fill(16..<length) else { return }
            _ = write(device, buffer, length)
        }
    }

    private nonisolated static func pushed(_ socket: Int32, _ bytes: [UInt8], _ count: Int) -> Bool {
        var done = 0
        while done < count {
            let wrote = bytes.withUnsafeBytes { write(socket, $0.baseAddress! + done, count - done) }
            guard wrote > 0 else { return false }
            done += wrote
        }
        return true
    }
}

/// Requests over a socket.
final class SocketStream: FileStream {
    let socket: SharedDescriptor
    nonisolated init(_ socket: SharedDescriptor) { self.socket = socket }

    func take(atMost count: Int) throws -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = read(socket.raw, &bytes, count)
        if got < 0, errno == EAGAIN { return [] }
        return got <= 0 ? nil : Array(bytes[..<got])
    }

    func more() async throws { try await readable(socket.raw) }

    func give(_ bytes: [UInt8]) async throws { try await writeAll(socket.raw, bytes) }
}
