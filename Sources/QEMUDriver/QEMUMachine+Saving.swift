import CLinux
import Glibc
import LinuxSystem
import MachineProcesses
import Machines

extension QEMUMachine: Snapshotting {
    /// Long for a disk that is slow: the state has a few hundred kilobytes.
    private static let saveDeadline = Duration.seconds(60)

    /// What the guest never touched is a hole in the file anyway.
    func shrink() async throws {}

    func save(
        memory: SharedDescriptor, state: SharedDescriptor, over parent: Snapshot?,
        beforeStill before: @Loop () async throws -> Void,
        whileStill still: @Loop () async throws -> Void
    ) async throws -> [String: String] {
        var facts = savedFacts
        facts[QEMUPlan.versionFact] = version
        var copy = try await guestMemory()
        // It may come while the rest is copied, and is seldom there.
        var later = laterFile.map {
            GuestMemory(.file($0), size: (words.laterMemory ?? 0) << 20, address: 0, offset: Int(memorySize))
        }
        var target = try MemoryTarget(memory, over: parent, size: wholeSize)
        try await target.take(&copy) { await Task.yield() }
        if later != nil { try await target.take(&later!) { await Task.yield() } }
        try await before()
        try await control.execute("stop")
        try await saveDevices(to: state)
        try await target.take(&copy) {}
        if later != nil { try await target.take(&later!) {} }
        try await still()
        return facts
    }

    /// QEMU's version and its packager's, e.g. `10.0.2 (Debian …)`.
    var version: String {
        let answer = control.version
        let numbers = ["major", "minor", "micro"].map { "\(answer["qemu"]?[$0]?.count ?? 0)" }.joined(separator: ".")
        let package = answer["package"]?.text ?? ""
        return package.isEmpty ? numbers : "\(numbers) \(package)"
    }

    static func check(version: String, of snapshot: Snapshot) throws(MachineError) {
        guard let saved = snapshot.facts[QEMUPlan.versionFact], saved != version else { return }
        throw MachineError(.unsupported, "the machine was saved by QEMU \(saved), and this is QEMU \(version)")
    }

    private func guestMemory() async throws -> GuestMemory {
        if server != nil, let memoryFile { return GuestMemory(.file(memoryFile), size: memorySize, address: 0) }
        let place = GuestMemory.Place.process(pid: qemu.child.pid, shown: qemu.identity.pid, over: memoryFile)
        return GuestMemory(place, size: memorySize, address: try await memoryAddress())
    }

    /// Where the guest's memory is in QEMU's. This is the only place where QEMU tells; what it says decides what of its own memory is read
    /// and written, and nothing else.
    private func memoryAddress() async throws -> UInt64 {
        let answer = try await control.execute("human-monitor-command", ["command-line": .string("info ramblock")])
        guard let address = GuestMemory.address(in: answer.text ?? "", size: memorySize) else {
            throw MachineError(.unsupported, "QEMU does not say where the guest's memory is: install QEMU 9 or newer")
        }
        return address
    }

    /// Bytes of all memory that the guest may have.
    private var wholeSize: Int { Int(memorySize) + Int((words.laterMemory ?? 0) << 20) }

    /// Does what changed since the saved machine's memory file was made, which QEMU has mapped or a file of the machine's own was filled with. Comes
    /// before the devices, which look into the memory.
    func change(by paths: [String]) async throws {
        if paths.isEmpty { return }
        let address = server == nil ? try await memoryAddress() : 0
        for path in paths {
            let changes = try FileChanges(reading: SharedDescriptor(try openFile(path, O_RDONLY)), size: wholeSize, path)
            try changes.each { (place, bytes) throws(SystemError) in
                let (isLater, inLater) = (place >= Int(memorySize), place - Int(memorySize))
                // No save writes a run over the border.
                guard isLater || -inLater >= bytes.count else { throw SystemError("read", path, code: EINVAL) }
                var done = 0
                while done < bytes.count {
                    let (start, count) = (bytes.baseAddress! + done, bytes.count - done)
                    done += try checked("write", GuestMemory.name) {
                        if isLater { return pwrite(laterFile?.raw ?? -1, start, count, inLater + done) }
                        if server != nil { return pwrite(memoryFile?.raw ?? -1, start, count, place + done) }
                        return hull_write_process(qemu.child.pid, start, address + UInt64(place + done), count)
                    }
                }
            }
        }
    }

    /// `migrate` would write the memory as well, and leave a machine that cannot be saved again; Xen, whose tools carry the memory
    /// themselves, has a command for the devices alone (QEMU's docs/devel/migration). `live` would give the disks away.
    private func saveDevices(to state: SharedDescriptor) async throws {
        saves += 1
        let set = Int64(QEMUArguments.stateSet + saves)
        // QEMU takes the one of a set that was opened as it would open it.
        let writable = SharedDescriptor(try openFile("/proc/self/fd/\(state.raw)", O_WRONLY))
        try await control.execute("add-fd", ["fdset-id": .integer(set)], descriptors: [writable.raw])
        try await withDeadline(Self.saveDeadline, awaiting: "the devices' state") {
            try await self.control.execute(
                "xen-save-devices-state", ["filename": .string("/dev/fdset/\(set)"), "live": .bool(false)])
        }
        try await control.execute("remove-fd", ["fdset-id": .integer(set)])
    }

    /// Reads the devices' state that it was started with. QEMU ends with a sentence when it cannot. A `cont` before that is done would be
    /// forgotten: the saved machine stood still, and so does this one when it is loaded.
    func load() async throws {
        try await control.execute("migrate-incoming", ["uri": .string("file:/dev/fdset/\(QEMUArguments.stateSet)")])
        let statuses = events.migrationStatuses
        try await withDeadline(Self.saveDeadline, awaiting: "the devices' state") {
            for await status in statuses {
                if status == "completed" { return }
                if status == "failed" || status == "cancelled" { break }
            }
            let answer = try await self.control.execute("query-migrate")
            let words = answer["error-desc"]?.text ?? "it gave no reason"
            throw MachineError(.refused, "QEMU did not load the devices' state: \(words)")
        }
    }
}

/// What a save writes the memory to: all of it to a file, or what is another than it was.
struct MemoryTarget {
    let file: SharedDescriptor
    private var changes: FileChanges
    private let known: LayeredFile?

    init(_ file: SharedDescriptor, over parent: Snapshot?, size: Int) throws {
        self.file = file
        changes = FileChanges(making: file, size: size, GuestMemory.name)
        known = try parent.map { try LayeredFile(base: $0.memory, changes: $0.changes, size: size) }
    }

    /// Brings it to what `memory` holds.
    mutating func take(_ memory: inout GuestMemory, yield: @Loop () async -> Void) async throws {
        if let known {
            try await memory.record(to: &changes, over: known, yield: yield)
        } else {
            try await memory.copy(to: file, yield: yield)
        }
    }
}
