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
        var template = Array("/tmp/hull-relay-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("make a folder") }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { try? removeTree(folder) }  // what is left in /tmp harms nobody
        for name in ["open", "closed", "machine", "mounted"] { try makeDirectories("\(folder)/\(name)", mode: 0o755) }
        try writeFile("\(folder)/closed/secret", Array("closed\n".utf8), flags: O_WRONLY | O_CREAT, mode: 0o600)
        chown("\(folder)/closed/secret", 1000, 1001)
        let share = Share(
            tag: "hull",
            entries: [
                ShareEntry(name: "0", hostPath: "\(folder)/open"),
                ShareEntry(name: "1", hostPath: "\(folder)/closed", readOnly: true),
            ])
        let server = try ShareServer(
            share, try #require(ShareServerProgram.find()), isRestored: false, confinement: Confinement(uidBase: 0x3700_0000),
            in: MachineDirectory("\(folder)/machine"))
        let waiting = Task { @Loop in try await server.process.child.wait() }
        let listening = Task { @Loop in await server.process.listen() }
        try server.release()
        let relay = try await FileRelay(server.connection)
        try server.emptyRoot()
        let (guest, stream) = try makeSocketPair()
        try setNonBlocking(stream.raw)
        let carrying = Task { @Loop in try await relay.carry(stream) }

        let device = SharedDescriptor(try openFile("/dev/fuse", O_RDWR))
        try mountFilesystem(
            "hull", "\(folder)/mounted", type: "fuse",
            data: "fd=\(device.raw),rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions")
        let (from, to) = (device.raw, guest.raw)
        Thread.detachNewThread { Self.pumpRequests(from, to) }
        Thread.detachNewThread { Self.pumpAnswers(to, from) }
        let script = """
            set -e
            cd \(folder)/mounted
            echo hello >0/new; cat 0/new; chown 5:6 0/new; ln 0/new 0/twin
            dd if=/dev/urandom of=0/big bs=1M count=20 2>/dev/null; cmp 0/big \(folder)/open/big
            head -c 3000000 /dev/urandom >\(folder)/open/other; cmp 0/other \(folder)/open/other
            mkdir 0/many; for i in $(seq 300); do echo $i >0/many/$i; done; ls 0/many | wc -l
            cat 1/secret; stat -c '%u %g' 1/secret; stat -c '%u %g %h' 0/new
            ! echo no >1/new
            rm -r 0/many; ls 0
            """
        let output = SharedDescriptor(try openFile("\(folder)/output", O_RDWR | O_CREAT))
        var how = Spawn("/bin/bash", ["-c", script])
        how.descriptors = [(output, 1), (output, 2)]
        let status = try await withDeadline(.seconds(60), awaiting: "the end of the commands") { try await how.spawn().wait() }
        let said = try readText("\(folder)/output")
        #expect(status == .code(0), "\(said)")
        #expect(said.contains("hello\n300\nclosed\n1000 1001\n5 6 2\n"), "\(said)")
        #expect(said.contains("new: Read-only file system"), "\(said)")
        #expect(said.hasSuffix("big\nnew\nother\ntwin\n"), "\(said)")

        umount2("\(folder)/mounted", 2 /* MNT_DETACH */)
        shutdown(stream.raw, Int32(SHUT_RDWR))
        try await carrying.value
        server.kill()
        _ = try await waiting.value
        listening.cancel()
        try server.remove()
        #expect(try listDirectory("\(folder)/machine") == [])
    }

    private static func pumpRequests(_ device: Int32, _ socket: Int32) {
        var buffer = [UInt8](repeating: 0, count: FileMessage.limit)
        while true {
            let count = read(device, &buffer, buffer.count)
            if count < 0, errno == EINTR || errno == ENOENT { continue }
            guard count > 0, pushed(socket, buffer, count) else { return }
        }
    }

    private static func pumpAnswers(_ socket: Int32, _ device: Int32) {
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

    private static func pushed(_ socket: Int32, _ bytes: [UInt8], _ count: Int) -> Bool {
        var done = 0
        while done < count {
            let wrote = bytes.withUnsafeBytes { write(socket, $0.baseAddress! + done, count - done) }
            guard wrote > 0 else { return false }
            done += wrote
        }
        return true
    }
}
