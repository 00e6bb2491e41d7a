import CLinux
import Glibc
import LinuxSystem
import MachineProcesses
import Machines

extension Domain: Snapshotting {
    /// Xen saves memory and devices in one stream: all of it is in `state`, and `memory` stays empty. What the share's server knows follows there. The guest's kernel takes part: it detaches
    /// itself from Xen for the moment, and where it does not, xl gives up after a minute.
    func save(
        memory: SharedDescriptor, state: SharedDescriptor, over parent: Snapshot?,
        beforeStill before: @Loop () async throws -> Void, whileStill still: @Loop () async throws -> Void
    ) async throws -> [String: String] {
        guard parent == nil else {
            throw MachineError(.unsupported, "Xen saves all of a domain's memory: save it without another snapshot below")
        }
        guard plan.kind != .hvm || share == nil else { throw Self.cannotSaveFiles }
        try share?.checkSaving()
        try await before()
        // Until the domain goes on: else what its guest asks for now would be done here, and again where it is restored.
        let files = try await share?.hold()
        try await toolstack.save(id, to: state)
        notePaused()
        try await still()
        var facts = plan.facts.merging(DomainMemory.facts(whole: wholeMemory)) { ours, _ in ours }
        if let files { facts.merge(try await SavedFiles.append(files, to: state)) { ours, _ in ours } }
        return facts
    }

    private nonisolated static let cannotSaveFiles = MachineError(
        .unsupported,
        "an HVM domain with bind mounts or volumes cannot be saved: restored, it works, but does not go away when it has ended; use --machine pvh"
    )

    /// The guest's kernel gives its free pages back to Xen, by its balloon: Xen would write and read each of them.
    func shrink() async throws {
        guard let whole = DomainMemory.pages(of: id) else { return }
        wholeMemory = whole
        let least = DomainMemory.least(of: spec.memoryBytes)
        try await store.write("/local/domain/\(id)/memory/target", "\(least >> 10)")
        await DomainMemory.settle(id, patience: .seconds(2)) { $0 <= Int(least >> 12) }
    }
}

/// The pages that a domain has, which are fewer than it may have while its balloon holds some.
@Loop
enum DomainMemory {
    nonisolated private static let fact = "pages"

    /// How many a domain has now; nil where Xen does not say.
    static func pages(of id: UInt32) -> Int? {
        let pages = hull_xen_pages(id)
        return pages > 0 ? pages : nil
    }

    /// Bytes that a guest with nothing but its agent needs: its kernel, the tables for its memory (a sixty-fourth), and as much again.
    nonisolated static func least(of memory: UInt64) -> UInt64 { min(memory, 96 << 20 + memory / 32) & ~0xFFF }

    nonisolated static func facts(whole: Int?) -> [String: String] { whole.map { [fact: "\($0)"] } ?? [:] }

    /// What was noted of a domain that was shrunk before it was saved.
    nonisolated static func whole(_ facts: [String: String]) -> Int? { facts[fact].flatMap { Int($0) } }

    /// Waits until a domain has as many as it should, or its number has not changed for so long; says whether it has what it should.
    @discardableResult
    static func settle(_ id: UInt32, patience: Duration, _ isThere: (Int) -> Bool) async -> Bool {
        var (last, since) = (0, ContinuousClock.now)
        while let now = pages(of: id) {
            if isThere(now) { return true }
            if now != last { (last, since) = (now, .now) }
            // Cancelled or too slow, it is as it is.
            guard .now - since < patience, (try? await sleep(for: .milliseconds(10))) != nil else { break }
        }
        return false
    }
}

extension DomainPlan {
    private static let version = "xen"
    private static let kind = "type"

    /// What a domain that is saved here has.
    var facts: [String: String] { [Self.version: Toolstack.version, Self.kind: kind.rawValue] }

    /// Throws where a domain that was saved with other facts cannot go on, and says which it is.
    func check(_ snapshot: Snapshot) throws(MachineError) {
        for (fact, name) in [(Self.version, "the version of Xen"), (Self.kind, "the type of domain")] {
            guard let saved = snapshot.facts[fact], saved != facts[fact] else { continue }
            throw MachineError(.unsupported, "\(name) was \(saved) when it was saved, and here it is \(facts[fact] ?? "another")")
        }
    }
}

/// What a saved domain and its share's server knew of each other, behind Xen's stream.
@Loop
enum SavedFiles {
    /// Where it begins, and how many bytes of it are the beginning of a request. The rest is the server's.
    private static let (start, part) = ("files", "request")
    /// The most bytes that a server may know: half a kilobyte for each of a million files.
    private static let limit = 512 << 20

    /// Writes it behind what is there; returns the facts that tell of it.
    static func append(_ files: FileRelay.Saved, to state: SharedDescriptor) async throws -> [String: String] {
        let end = try checked("go to the end of", "the saved state") { lseek(state.raw, 0, SEEK_END) }
        try await writeAll(state.raw, files.part)
        try await copy(files.server, from: 0, to: state)
        return [start: "\(end)", part: "\(files.part.count)"]
    }

    /// What the snapshot that a machine is made from has; nil for one without.
    static func find(in source: MachineSource) async throws -> FileRelay.Saved? {
        guard case .restore(_, let snapshot) = source, let start = snapshot.facts[start] else { return nil }
        let file = SharedDescriptor(try openFile(snapshot.state, O_RDONLY))
        guard let start = Int(start), let count = snapshot.facts[part].flatMap({ Int($0) }), start > 0,
            (0..<FileMessage.limit).contains(count), lseek(file.raw, start, SEEK_SET) == start
        else { throw MachineError(.refused, "the snapshot does not say where its share server's state is") }
        let part = count == 0 ? [] : try await readSome(file.raw, capacity: count)
        guard part.count == count else { throw MachineError(.refused, "the snapshot's share server's state is cut short") }
        // The server gets what is its own, and not the file with the guest's memory.
        let server = try makeMemoryFile("files")
        try await copy(file, from: start + count, to: server)
        try checked("go back in", "a memory file") { lseek(server.raw, 0, SEEK_SET) }
        return FileRelay.Saved(part: part, server: server)
    }

    /// Copies what a file has from there on. Where it is read is nobody else's affair.
    private static func copy(_ file: SharedDescriptor, from start: Int, to target: SharedDescriptor) async throws {
        var status = stat()
        try checked("look at", "a share server's state") { fstat(file.raw, &status) }
        guard status.st_size - start <= limit else {
            throw MachineError(.refused, "the share server's state is larger than \(limit >> 20) MiB")
        }
        var offset = start
        while offset < status.st_size {
            let bytes = [UInt8](unsafeUninitializedCapacity: min(1 << 20, status.st_size - offset)) { buffer, count in
                count = max(0, pread(file.raw, buffer.baseAddress, buffer.count, offset))
            }
            guard !bytes.isEmpty else { throw SystemError("read", "a share server's state") }
            try await writeAll(target.raw, bytes)
            offset += bytes.count
            await Task.yield()
        }
    }
}
