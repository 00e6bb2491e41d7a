import Glibc
import LinuxSystem
import Testing

@testable import Sandboxes

@Suite struct StoreTests {
    init() { Loop.runInBackground() }

    @Loop private func withStore(_ body: @Loop (ContainerStore) async throws -> Void) async throws {
        let folder = "/tmp/hull-store-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        let roots = Roots(data: "\(folder)/data", runtime: "\(folder)/run")
        do {
            try await body(ContainerStore(roots))
        } catch {
            try removeTree(folder)
            throw error
        }
        try removeTree(folder)
    }

    private nonisolated func record(_ name: String, _ digit: Character = "a") -> ContainerRecord {
        ContainerRecord(
            id: String(repeating: digit, count: 64), name: name, created: 1, root: .folder("/"), process: .init(arguments: ["x"]))
    }

    @Test func aContainerIsThereWholeOrNotAtAll() async throws {
        try await withStore { store in
            let made = try await store.add(self.record("one")) { folder in
                try writeFile("\(folder)/disk.img", [1], flags: O_WRONLY | O_CREAT)
            }
            #expect(try store.find("one").id == made.id)
            #expect(try store.find("aaaa").name == "one")
            await #expect(throws: SandboxError.self) { try await store.add(self.record("one", "b")) { _ in } }
            await #expect(throws: SystemError.self) {
                try await store.add(self.record("two", "c")) { _ in throw SystemError("fill", code: ENOSPC) }
            }
            #expect(try store.list().count == 1)
            #expect(try listDirectory(store.roots.containers) == [made.id], "what failed left nothing")
            try store.remove(made.id)
            #expect(try listDirectory(store.roots.containers) == [])
        }
    }

    @Test func prefixesMustBeUnique() async throws {
        try await withStore { store in
            for digit in ["a", "b"] as [Character] {
                var record = self.record("c\(digit)", digit)
                record.id = "f" + record.id.dropFirst()
                _ = try await store.add(record) { _ in }
            }
            #expect(throws: SandboxError.self) { try store.find("f") }
            #expect(try store.find("fa").name == "ca")
            #expect(throws: SandboxError.self) { try store.find("") }
        }
    }

    @Test func leftoversOfTheKilledAreCollected() async throws {
        try await withStore { store in
            try makeDirectories("\(store.roots.containers)/.making-x/deep")
            try makeDirectories("\(store.roots.containers)/.removing-y")
            try store.collectLeftovers()
            #expect(try listDirectory(store.roots.containers) == [])
        }
    }

    @Test func aLedgerIsWalkedBackwardsByWhoeverFindsIt() async throws {
        try await withStore { store in
            let paths = store.roots.container(String(repeating: "d", count: 64))
            try makeDirectories(paths.runtime)
            let ledger = try Ledger(paths)
            let first = "\(store.roots.runtime)/first", second = "\(store.roots.runtime)/second"
            try await ledger.hold(.folder(first)) { try makeDirectories(first) }
            try await ledger.hold(.folder(second)) { try makeDirectories(second) }
            await #expect(throws: SystemError.self) {
                try await ledger.hold(.folder("\(first)/third")) { throw SystemError("make", code: EIO) }
            }
            #expect(ledger.held == [.folder(first), .folder(second)])
            // Another process finds it.
            let found = try Ledger(paths)
            #expect(found.held == [.folder(first), .folder(second)])
            try await found.undoAll()
            #expect(!exists(first) && !exists(second))
            #expect(try Ledger(paths).held.isEmpty)
        }
    }

    @Test func aLedgerStaysWithWhatCannotBeTakenBack() async throws {
        try await withStore { store in
            let id = String(repeating: "f", count: 64)
            let paths = store.roots.container(id)
            try makeDirectories(paths.runtime)
            let ledger = try Ledger(paths)
            try await ledger.hold(.folder(paths.runtime)) {}
            try await ledger.hold(.machine(hypervisor: "names", id: id)) {}
            await #expect(throws: SandboxError.self) { try await ledger.undoAll() }
            // The next one finds it, and can.
            let gone = ResidentTests.Gone()
            let found = try Ledger(paths, drivers: ["names": { ResidentTests.Driver(gone: gone) }])
            #expect(found.held == [.folder(paths.runtime), .machine(hypervisor: "names", id: id)])
            try await found.undoAll()
            #expect(gone.machines == [id] && !exists(paths.runtime))
        }
    }

    /// Its owner has the lock while the folder goes; who waits for it gets a folder that stays.
    @Test func aFolderGoesInOneStep() async throws {
        try await withStore { store in
            let paths = store.roots.container(String(repeating: "e", count: 64))
            #expect(try paths.attemptLock(making: false) == nil)
            #expect(!exists(paths.runtime), "looking at it made it")
            let owner = try #require(try paths.attemptLock(making: true))
            #expect(try paths.attemptLock(making: true) == nil)
            try paths.removeRuntime()
            let next = try #require(try paths.attemptLock(making: true))
            #expect(exists(paths.lock))
            withExtendedLifetime(owner) {}
            #expect(try paths.attemptLock(making: true) == nil, "the first one's end let go of the second's lock")
            withExtendedLifetime(next) {}
            // A remover that was killed half-way.
            try makeDirectories("\(store.roots.runtime)/\(ContainerPaths.removing)half/deep")
            await Reaper(store).reapDead { Issue.record("\($0)") }
            #expect(try listDirectory(store.roots.runtime).allSatisfy { !$0.hasPrefix(ContainerPaths.removing) })
        }
    }

    @Test func theDeadAreReaped() async throws {
        try await withStore { store in
            let container = try await store.add(self.record("dead")) { _ in }
            let gone = ProcessIdentity(pid: getpid())!
            try makeDirectories(container.paths.runtime)
            let thing = "\(store.roots.runtime)/thing"
            let ledger = try Ledger(container.paths)
            try await ledger.hold(.folder(container.paths.runtime)) {}
            try await ledger.hold(.folder(thing)) { try makeDirectories(thing) }
            try store.save(
                ContainerState(.running(.init(monitor: gone, started: 5, boot: "", addresses: [], ports: []))), of: container.id)
            // As long as its lock is held, it lives.
            var lock = try FileLock.attempt(container.paths.lock)
            await Reaper(store).reapDead { Issue.record("\($0)") }
            #expect(try store.find("dead").state.isLive)
            withExtendedLifetime(lock) {}
            lock = nil
            await Reaper(store).reapDead { Issue.record("\($0)") }
            let state = try store.find("dead").state
            guard case .exited(let exit) = state.status else {
                Issue.record("not exited: \(state)")
                return
            }
            #expect(exit.code == 137 && exit.started == 5)
            #expect(!exists(thing) && !exists(container.paths.runtime))
        }
    }
}
