import CLinux
import Glibc
import LinuxSystem
import Machines
import Testing

@testable import MachineProcesses
@testable import QEMUDriver

@Suite(.serialized, .enabled(if: Lab.canShare, "no machine with a share can be run here")) struct ShareTests {
    @Loop private func prepare(_ lab: Lab) throws -> Share {
        for name in ["open", "closed"] {
            try makeDirectories("\(lab.folder)/\(name)", mode: 0o755)
            try writeFile("\(lab.folder)/\(name)/secret", Array("of \(name)\n".utf8), flags: O_WRONLY | O_CREAT, mode: 0o600)
        }
        chown("\(lab.folder)/open/secret", 1000, 1001)
        try writeFile("\(lab.folder)/single", Array("one file\n".utf8), flags: O_WRONLY | O_CREAT, mode: 0o644)
        return Share(
            tag: "hull",
            entries: [
                ShareEntry(name: "0", hostPath: "\(lab.folder)/open"),
                ShareEntry(name: "1", hostPath: "\(lab.folder)/closed", readOnly: true),
                ShareEntry(name: "2", hostPath: "\(lab.folder)/single", isFile: true),
            ])
    }

    @Test(arguments: [MachineSpec.Kind.microvm, .q35]) func readsWritesAndRefuses(_ kind: MachineSpec.Kind) async throws {
        try await Lab.run { lab in
            let share = try prepare(lab)
            let spec = try await lab.spec {
                $0.kind = kind
                $0.share = share
                // As an engine's machine: it may grow.
                if kind == .q35 { $0.growth = .init(memoryBytes: 24 << 30, vcpus: 2) }
            }
            try await lab.withShell(spec) { machine, shell in
                let guest = try #require(machine.guest.share)
                #expect(try await shell.run("mount -t virtiofs \(guest.tag) /mnt") == "")
                #expect(try await shell.run("ls /mnt") == "0\n1\n2")
                // Owners are those of the host's files, and root in the guest reads what only its owner may.
                #expect(try await shell.run("stat -c '%u %g %a' /mnt/0/secret") == "1000 1001 600")
                #expect(try await shell.run("cat /mnt/0/secret") == "of open")
                #expect(try await shell.run("cat /mnt/1/secret /mnt/2") == "of closed\none file")
                #expect(try await shell.run("echo new > /mnt/0/made; chown 5:6 /mnt/0/made; ln /mnt/0/made /mnt/0/twin") == "")
                var status = stat()
                #expect(stat("\(lab.folder)/open/made", &status) == 0)
                #expect((status.st_uid, status.st_gid, status.st_nlink) == (5, 6, 2))
                #expect(try await shell.run("echo more >> /mnt/2") == "")
                #expect(try readText("\(lab.folder)/single") == "one file\nmore\n")
                // The host's mount refuses, also when the guest mounts as it likes; so does the share's own root.
                #expect(try await shell.run("mount -o remount,rw /mnt/1; echo x > /mnt/1/new").contains("Read-only file system"))
                #expect(try await shell.run("echo x > /mnt/1/secret").contains("Read-only file system"))
                #expect(try await shell.run("mkdir /mnt/3").contains("Read-only file system"))
                #expect(try await shell.run("rm /mnt/2") != "")
                #expect(try readText("\(lab.folder)/closed/secret") == "of closed\n")
                // No way up and out.
                #expect(try await shell.run("ls /mnt/0/../..").contains("busybox"))
                try Confined(machine.processes[1].identity).expectShareServer(uid: lab.uidBase)
            }
        }
    }

    /// Of a filesystem that maps no owners, the server has the host's ids, and nothing else of the host.
    @Test func theHostsOwnersAndNothingElse() async throws {
        try await Lab.run { lab in
            for name in ["lower", "upper", "work", "merged"] { try makeDirectories("\(lab.folder)/\(name)") }
            try writeFile("\(lab.folder)/lower/secret", Array("below\n".utf8), flags: O_WRONLY | O_CREAT, mode: 0o600)
            chown("\(lab.folder)/lower/secret", 70000, 70001)
            let data = "lowerdir=\(lab.folder)/lower,upperdir=\(lab.folder)/upper,workdir=\(lab.folder)/work"
            try mountFilesystem("overlay", "\(lab.folder)/merged", type: "overlay", data: data)
            defer { umount2("\(lab.folder)/merged", Int32(MNT_DETACH)) }
            let share = Share(tag: "hull", entries: [ShareEntry(name: "0", hostPath: "\(lab.folder)/merged")])
            try await lab.withShell(try await lab.spec { $0.share = share }) { machine, shell in
                #expect(try await shell.run("mount -t virtiofs hull /mnt") == "")
                #expect(try await shell.run("stat -c '%u %g' /mnt/0/secret; cat /mnt/0/secret") == "70000 70001\nbelow")
                #expect(try await shell.run("echo new >/mnt/0/made; chown 80000 /mnt/0/made") == "")
                var status = stat()
                #expect(stat("\(lab.folder)/upper/made", &status) == 0 && status.st_uid == 80000)
                // A device that it makes is none there: neither here nor in the guest's share can it be opened.
                #expect(try await shell.run("mknod /mnt/0/null c 1 3; echo x >/mnt/0/null").contains("null"))
                try Confined(machine.processes[1].identity).expectShareServer(uid: 0)
                try Confined(machine.processes[0].identity).expectVMM(uid: lab.uidBase + 65536)
            }
        }
    }

    @Test func aDeadServerEndsTheMachine() async throws {
        try await Lab.run { lab in
            let share = try prepare(lab)
            let exit = try await lab.withShell(try await lab.spec { $0.share = share }) { machine, _ in
                machine.processes[1].identity.signal(SIGKILL)
                return await machine.wait()
            }
            #expect(exit.reason == .helperDied(role: "virtiofsd", .signal(SIGKILL)))
            // And a dead VMM ends the server, and is not taken for the server's death.
            let other = try await lab.withShell(try await lab.spec { $0.share = share }) { machine, _ in
                machine.processes[0].identity.signal(SIGKILL)
                return await machine.wait()
            }
            #expect(other.reason == .vmmDied(.signal(SIGKILL)))
        }
    }

    @Test func aMachineThatCannotStartLeavesNoServer() async throws {
        try await Lab.run { lab in
            var spec = try await lab.spec { $0.share = Share(tag: "hull", entries: []) }
            spec.kernel = "\(lab.folder)/no-such-kernel"
            await #expect(throws: SystemError.self) { try await lab.withShell(spec) { _, _ in } }
        }
    }
}
