import CLinux
import Glibc
import LinuxSystem
import Machines
import Testing

@testable import MachineProcesses
@testable import QEMUDriver

/// What /proc says of a process of a machine.
@Loop
struct Confined {
    let pid: Int32
    private var status: [String: String] = [:]

    init(_ identity: ProcessIdentity) throws {
        pid = identity.pid
        for line in try readText("/proc/\(pid)/status").split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 {
                status[String(parts[0])] = parts[1].split(whereSeparator: \.isWhitespace).joined(separator: " ")
            }
        }
    }

    private func expectCommon(uid: UInt32, gid: UInt32) throws {
        #expect(status["Uid"] == "\(uid) \(uid) \(uid) \(uid)")
        #expect(status["Gid"] == "\(gid) \(gid) \(gid) \(gid)")
        #expect(status["NoNewPrivs"] == "1")
        #expect(status["CapBnd"] == "0000000000000000")
        #expect(status["CapInh"] == "0000000000000000")
        #expect(status["CapAmb"] == "0000000000000000")
        #expect(status["Seccomp"] == "2")
        for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            #expect(try link("ns/\(kind == "pid" ? "pid" : kind)") != link("ns/\(kind)", of: "self"), "\(kind) namespace")
        }
        #expect(try readText("/proc/\(pid)/limits").contains { _ in true })
        let limits = try readText("/proc/\(pid)/limits").split(separator: "\n")
        let core = try #require(limits.first { $0.hasPrefix("Max core file size") })
        #expect(core.split(whereSeparator: \.isWhitespace)[4...5].elementsEqual(["0", "0"]))
        #expect(try readFile("/proc/\(pid)/environ").isEmpty)
        // No socket path, no file by name but devices and what it was given.
        for name in try listDirectory("/proc/\(pid)/fd") {
            // A descriptor may go while we look.
            guard let target = try? link("fd/\(name)") else { continue }
            #expect(
                target.hasPrefix("socket:") || target.hasPrefix("anon_inode:") || target.hasPrefix("pipe:")
                    || target.hasPrefix("/memfd:") || target == "/dev/null" || isGiven(target), "descriptor \(name) is \(target)")
        }
    }

    private func isGiven(_ target: String) -> Bool {
        target.contains("/hull-machine-") || target.hasPrefix("/share") || target.hasPrefix("/proc") || target == "/"
            || target.hasPrefix("/dev/net/tun") || target.contains("/dev/kvm") || target.contains("mountinfo")
            || target.contains("/fd")
    }

    private func link(_ name: String, of who: String? = nil) throws -> String {
        var target = [CChar](repeating: 0, count: 512)
        let count = try checked("read the link", name) { readlink("/proc/\(who ?? "\(pid)")/\(name)", &target, 511) }
        return String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private func mounts() throws -> [Substring] {
        try readText("/proc/\(pid)/mountinfo").split(separator: "\n").map { $0.split(separator: " ")[4] }
    }

    func expectVMM(uid: UInt32) throws {
        try expectCommon(uid: uid, gid: uid)
        #expect(status["Groups"] ?? "" == "")
        for set in ["CapPrm", "CapEff"] { #expect(status[set] == "0000000000000000") }
        #expect(try listDirectory("/proc/\(pid)/root/") == [])
        #expect(try mounts() == ["/"])
        #expect(try readText("/proc/\(pid)/mountinfo").contains(" ro,"))
    }

    /// `uid` is the first of its sandbox's, or 0 for one that works with the host's ids (docs/adr/013).
    func expectShareServer(uid: UInt32) throws {
        try expectCommon(uid: uid, gid: uid)
        #expect(status["Groups"] ?? "" == "")
        // Capabilities in a user namespace of its own reach nothing of the host's.
        #expect(try link("ns/user") != link("ns/user", of: "self"))
        let map = try readText("/proc/\(pid)/uid_map").split(whereSeparator: \.isWhitespace)
        #expect(map == ["0", "\(uid)", uid == 0 ? "4294967295" : "65536"])
        #expect(status["CapEff"] == "00000000880000db")
        #expect(try listDirectory("/proc/\(pid)/root/") == ["share"])
        #expect(try mounts().allSatisfy { $0 == "/" || $0.hasPrefix("/share/") })
    }
}

@Suite(.serialized, .enabled(if: Lab.canRun, "no machine can be run here: \(Lab.obstacle ?? "")")) struct ConfinementTests {
    @Test(arguments: [MachineSpec.Kind.microvm, .q35]) func theVMMHasNothing(_ kind: MachineSpec.Kind) async throws {
        try await Lab.run { lab in
            try writeFile("\(lab.folder)/disk", [UInt8](repeating: 1, count: 1 << 20), flags: O_WRONLY | O_CREAT)
            let spec = try await lab.spec {
                $0.kind = kind
                $0.disks = [Disk(name: "one", path: "\(lab.folder)/disk", readOnly: false)]
            }
            try await lab.withShell(spec) { machine, shell in
                #expect(machine.processes.map(\.role) == ["qemu"])
                try Confined(machine.processes[0].identity).expectVMM(uid: lab.uidBase + 65536)
                // It still works, with its root empty.
                #expect(try await shell.run("dd if=/dev/vda bs=64k 2>/dev/null | wc -c") == "1048576")
            }
        }
    }
}
