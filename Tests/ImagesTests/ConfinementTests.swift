import Glibc
import LinuxSystem
import OCISpec
import Testing

@testable import Images

/// What the kernel says of a `hull-unpack` that waits for a layer's bytes.
@Suite("Confinement of the unpacker", .enabled(if: missing == nil, "\(missing ?? "")"))
struct ConfinementTests {
    @Test("it sees an empty folder and no network, and has only the capabilities that owners and modes need")
    func confined() async throws {
        let scratch = try Scratch()
        let tree = "\(scratch.path)/tree"
        try makeDirectories(tree)
        let (child, output, feeder) = try await start(scratch, tree)
        // It says so when it has locked itself in and begins to read.
        #expect(String(decoding: try await readSome(output.raw), as: UTF8.self) == "layer 0\n")
        let status = try readText("/proc/\(child.pid)/status")
        func field(_ name: String) -> String? {
            status.split(separator: "\n").first { $0.hasPrefix("\(name):") }
                .map { $0.dropFirst(name.count + 1).drop(while: \.isWhitespace) }.map(String.init)
        }
        // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP
        #expect(field("CapEff") == "000000008000001b")
        #expect(field("CapPrm") == "000000008000001b")
        #expect(field("CapInh") == "0000000000000000" && field("CapAmb") == "0000000000000000")
        #expect(field("NoNewPrivs") == "1")
        #expect(field("NSpid")?.hasSuffix("\t1") == true)
        for space in ["net", "mnt", "pid", "ipc", "uts"] {
            #expect(link("/proc/\(child.pid)/ns/\(space)") != link("/proc/self/ns/\(space)"), "\(space)")
        }
        // Its root is the folder, and no other mount is there.
        #expect(try listDirectory("/proc/\(child.pid)/root") == [])
        #expect(try readText("/proc/\(child.pid)/mountinfo").split(separator: "\n").count == 1)
        #expect(try readText("/proc/\(child.pid)/mountinfo").contains("nosuid,nodev,noexec"))
        // Its descriptors: three and the layer, and the root that it works in.
        #expect(try listDirectory("/proc/\(child.pid)/fd").count <= 6)
        child.signal(SIGKILL)
        _ = try await child.wait()
        withExtendedLifetime(feeder) {}
    }

    @Loop
    private func start(_ scratch: Scratch, _ tree: String) throws -> (ChildProcess, SharedDescriptor, SharedDescriptor) {
        let builder = RootBuilder(store: try scratch.store(), name: "test", layers: [], diffs: [])
        let layer = try makePipe()
        let output = try makePipe()
        var how = builder.confined(["unpack", "1000", "10", "\(SHA256.digest([]))"], in: tree, [layer.read])
        how.noNewPrivileges = true
        how.deathSignal = SIGKILL
        let nothing = SharedDescriptor(try openFile("/dev/null", O_RDWR))
        how.descriptors += [(nothing.raw, 0), (output.write.raw, 1), (nothing.raw, 2)]
        let child = try how.spawn()
        try setNonBlocking(output.read.raw)
        return (child, output.read, layer.write)
    }

    private func link(_ path: String) -> String {
        var target = [UInt8](repeating: 0, count: 256)
        let length = target.withUnsafeMutableBytes { readlink(path, $0.baseAddress!, $0.count) }
        return String(decoding: target[..<max(0, length)], as: UTF8.self)
    }
}
