import Glibc
import LinuxSystem
import Machines
import Testing

@testable import QEMUDriver

@Suite struct TemplateArgumentTests {
    @Test func aCloneMapsTheMemoryPrivately() {
        var arguments = ArgumentTests.arguments(ArgumentTests.spec(), .microvm, .tcg)
        arguments.boot = nil
        arguments.incoming = 9
        arguments.memoryFile = .init(path: "/memory", isPrivate: true)
        let words = arguments.words()
        #expect(!words.contains("-kernel") && !words.contains("-append"))
        #expect(words.contains("memory-backend-file,id=memory,size=256M,mem-path=/memory,share=off,readonly=on,rom=off"))
        #expect(words.contains("fd=9,set=1000") && words.contains("defer"))
        arguments.memoryFile = .init(path: "/memory", isPrivate: false)
        #expect(arguments.words().contains("memory-backend-file,id=memory,size=256M,mem-path=/memory,share=on"))
    }

    @Test func theClockMustNotBeFarOff() throws {
        var plan = try QEMUPlan(ArgumentTests.spec())
        plan.tscKilohertz = 2_000_000
        func snapshot(_ kilohertz: String) -> Snapshot { Snapshot(memory: "", state: "", facts: ["tsc-khz": kilohertz]) }
        try plan.checkClock(of: snapshot("2000100"))
        #expect(throws: MachineError.self) { try plan.checkClock(of: snapshot("2010000")) }
        #expect(throws: MachineError.self) { try plan.checkClock(of: snapshot("1990000")) }
    }
}

/// One machine saved, and several made of it.
@Suite(.serialized, .enabled(if: Lab.canRun, "no machine can be run here: \(Lab.obstacle ?? "")")) struct TemplateTests {
    /// A saved machine with a disk that is blank, and the spec of its clones, whose disk is not.
    @Loop static func save(_ lab: Lab, _ change: (inout MachineSpec) -> Void = { _ in }) async throws -> (MachineSpec, Snapshot) {
        for (name, text) in [("blank", ""), ("disk", "this is a clone's own\n")] {
            try writeFile("\(lab.folder)/\(name)", Array(text.utf8), flags: O_WRONLY | O_CREAT)
            truncate("\(lab.folder)/\(name)", 1 << 20)
        }
        var spec = try await lab.spec {
            $0.disks = [Disk(name: "own", path: "\(lab.folder)/blank", readOnly: true)]
            change(&$0)
        }
        let share = spec.share
        if let tag = share?.tag { spec.share = Share(tag: tag, entries: []) }
        let facts = try await lab.withShell(spec) { machine, shell in
            // What the clones are to have of it.
            #expect(try await shell.run("dd if=/dev/urandom of=/kept bs=1M count=8 2>/dev/null; md5sum /kept >/sum") == "")
            return try await Self.save(machine, "\(lab.folder)/memory", "\(lab.folder)/state")
        }
        spec.share = share
        spec.disks[0].path = "\(lab.folder)/disk"
        return (spec, Snapshot(memory: "\(lab.folder)/memory", state: "\(lab.folder)/state", facts: facts))
    }

    @Loop static func save(
        _ machine: any VirtualMachine, _ memory: String, _ state: String, over parent: Snapshot? = nil
    ) async throws -> [String: String] {
        let files = try [memory, state].map { SharedDescriptor(try openFile($0, O_RDWR | O_CREAT | O_EXCL)) }
        return try await #require(machine.snapshotting).save(
            memory: files[0], state: files[1], over: parent, beforeStill: {}, whileStill: {})
    }

    @Loop static func withClone<R: Sendable>(
        _ lab: Lab, _ spec: MachineSpec, _ snapshot: Snapshot, folder: String = "machine",
        _ body: @Loop (any VirtualMachine, Shell) async throws -> R
    ) async throws -> R {
        try makeDirectories("\(lab.folder)/\(folder)")
        return try await QEMU().withMachine(.restore(spec, snapshot), in: MachineDirectory("\(lab.folder)/\(folder)")) {
            machine in
            try await body(machine, Shell(try await machine.connect()))
        }
    }

    static func sum(_ path: String) async throws -> String {
        String(decoding: try await Spawn("/usr/bin/sha256sum", [path]).run().standardOutput.prefix(64), as: UTF8.self)
    }

    /// Memory given back, overwritten and dropped in one clone is nothing that the other could see, nor the file.
    @Test func noCloneChangesAnother() async throws {
        try await Lab.run { lab in
            let (spec, snapshot) = try await Self.save(lab)
            let before = try await Self.sum(snapshot.memory)
            let identity = try FileIdentity(snapshot.memory)
            try await Self.withClone(lab, spec, snapshot, folder: "one") { one, first in
                try await Self.withClone(lab, spec, snapshot, folder: "two") { two, second in
                    #expect(try await first.run("head -n 1 \(one.guest.disks["own"]!.path)") == "this is a clone's own")
                    #expect(try await second.run("md5sum -c /sum") == "/kept: OK")
                    // All of its memory dirtied, then freed, then dropped by the VMM as far as anybody could.
                    _ = try await first.run(
                        "mkdir -p /t; mount -t tmpfs t /t; dd if=/dev/zero of=/t/all bs=1M count=100 2>/dev/null")
                    _ = try await first.run(
                        "rm /t/all /kept; echo 3 >/proc/sys/vm/drop_caches; echo 1 >/proc/sys/vm/compact_memory")
                    #expect(try await second.run("md5sum -c /sum") == "/kept: OK")
                    try Self.cannotWrite(one, identity.inode)
                }
            }
            try await Self.withClone(lab, spec, snapshot, folder: "three") { (_, third) async throws -> Void in
                #expect(try await third.run("md5sum -c /sum") == "/kept: OK")
            }
            #expect(try await Self.sum(snapshot.memory) == before)
            #expect(try FileIdentity(snapshot.memory) == identity)
            for folder in ["one", "two", "three"] { rmdir("\(lab.folder)/\(folder)") }
        }
    }

    /// The VMM has no way to write to the memory file or to make a hole in it: it maps it privately, and has it open for reading only.
    @Loop private static func cannotWrite(_ machine: any VirtualMachine, _ inode: UInt64) throws {
        let pid = try #require(machine.processes.first).identity.pid
        let mappings = try readText("/proc/\(pid)/maps").split(separator: "\n").map { $0.split(separator: " ") }
            .filter { $0.count > 4 && UInt64($0[4]) == inode }
        #expect(!mappings.isEmpty && mappings.allSatisfy { $0[1].hasSuffix("p") }, "\(mappings)")
        for number in try listDirectory("/proc/\(pid)/fd") {
            guard let text = try? readText("/proc/\(pid)/fdinfo/\(number)") else { continue }  // closed meanwhile
            let facts = text.split(separator: "\n").map { $0.split(separator: "\t") }
            guard facts.contains(where: { $0[0] == "ino:" && UInt64($0[1]) == inode }) else { continue }
            #expect(facts.first { $0[0] == "flags:" }?[1].last == "0", "\(text)")
        }
    }

    /// What a share server must see is memory of the clone's own.
    @Test(.enabled(if: Lab.canShare)) func aCloneHasAShare() async throws {
        try await Lab.run { lab in
            try makeDirectories("\(lab.folder)/shown", mode: 0o755)
            try writeFile("\(lab.folder)/shown/file", Array("of the host\n".utf8), flags: O_WRONLY | O_CREAT, mode: 0o644)
            let (spec, snapshot) = try await Self.save(lab) {
                $0.share = Share(tag: "hull", entries: [ShareEntry(name: "shown", hostPath: "\(lab.folder)/shown")])
            }
            let before = try await Self.sum(snapshot.memory)
            for _ in 0..<2 {
                try await Self.withClone(lab, spec, snapshot) { (_, shell) async throws -> Void in
                    #expect(try await shell.run("mkdir -p /s; mount -t virtiofs hull /s && cat /s/shown/file") == "of the host")
                    #expect(try await shell.run("echo of the guest >/s/shown/new; md5sum -c /sum") == "/kept: OK")
                    #expect(try readText("\(lab.folder)/shown/new") == "of the guest\n")
                }
            }
            #expect(try await Self.sum(snapshot.memory) == before)
        }
    }

    /// A state that makes no sense is a sentence and no machine; nothing is left (`Lab.run` looks).
    @Test func aDamagedStateIsRefused() async throws {
        try await Lab.run { lab in
            let (spec, snapshot) = try await Self.save(lab)
            var state = try readFile(snapshot.state)
            for index in state.indices.dropFirst(100).prefix(200) { state[index] = 0xEE }
            try replaceFile(snapshot.state, state)
            await #expect(throws: MachineError.self) { try await Self.withClone(lab, spec, snapshot) { _, _ in } }
            try writeFile(snapshot.state, [], flags: O_WRONLY | O_TRUNC)
            await #expect(throws: MachineError.self) { try await Self.withClone(lab, spec, snapshot) { _, _ in } }
        }
    }

    @Test func theShapeSaysWhatMatters() async throws {
        try await Lab.run { lab in
            try writeFile("\(lab.folder)/a", [1], flags: O_WRONLY | O_CREAT)
            try writeFile("\(lab.folder)/b", [2], flags: O_WRONLY | O_CREAT)
            try writeFile("\(lab.folder)/c", [3, 3], flags: O_WRONLY | O_CREAT)
            let base = try await lab.spec { $0.disks = [Disk(name: "d", path: "\(lab.folder)/a", readOnly: true)] }
            let templating = try #require(QEMU().templating)
            let shape = try templating.shape(of: base)
            func changed(_ change: (inout MachineSpec) -> Void) throws -> [String] {
                var spec = base
                change(&spec)
                return try templating.shape(of: spec)
            }
            #expect(try changed { $0.disks[0].path = "\(lab.folder)/b" } == shape)
            #expect(try changed { $0.disks[0].path = "\(lab.folder)/c" } != shape)
            #expect(try changed { $0.disks[0].isFixed = true } != shape)
            #expect(try changed { $0.disks[0].readOnly = false } != shape)
            #expect(try changed { $0.vcpus = 2 } != shape)
            #expect(try changed { $0.memoryBytes += 1 << 20 } != shape)
            #expect(try changed { $0.kernelArguments = ["x"] } != shape)
            #expect(try changed { $0.kind = .q35 } != shape)
            #expect(try changed { $0.initramfs = "\(lab.folder)/c" } != shape)
            #expect(try changed { $0.id = "another" } == shape)
        }
    }
}
