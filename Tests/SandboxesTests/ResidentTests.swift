import Glibc
import LinuxSystem
import Machines
import Testing

@testable import Sandboxes

/// Who has a resident machine, and when it goes. The driver is one whose machines are only names.
@Suite struct ResidentTests {
    // Before any of them, which run on it.
    init() { Loop.runInBackground() }

    /// Remembers what was taken away.
    @Loop final class Gone: Reclaiming {
        var machines: [String] = []
        nonisolated init() {}
        func reclaim(_ id: String) async throws { machines.append(id) }
    }

    struct Driver: Hypervisor {
        let gone: Gone
        let traits = HypervisorTraits(name: "names", overheadBytes: 0, canPark: true)
        func check() async throws -> [String] { [] }
        func layout(of spec: MachineSpec) throws -> GuestLayout { throw MachineError(.unsupported, "it has no guests") }
        var templating: (any Templating)? { nil }
        var reclaiming: (any Reclaiming)? { gone }
        func withMachine<R: Sendable>(
            _ source: MachineSource, in directory: MachineDirectory, _ body: @Loop (any VirtualMachine) async throws -> R
        ) async throws -> R { throw MachineError(.unsupported, "it runs no machines") }
    }

    static func spec(_ id: String, memory: UInt64 = 256 << 20) -> MachineSpec {
        MachineSpec(
            id: id, memoryBytes: memory, kernel: "/k", initramfs: "/i", consoleLog: "/c",
            confinement: Confinement(uidBase: 1 << 20))
    }

    @Loop static func inStore(_ body: @Loop (ResidentStore, Roots, Gone) async throws -> Void) async throws {
        var template = Array("/tmp/hull-resident-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("make a folder") }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { try? removeTree(folder) }  // a left-over in /tmp fails no test
        let roots = Roots(data: "\(folder)/data", runtime: "\(folder)/run")
        let gone = Gone()
        try await body(ResidentStore(roots, drivers: ["names": { Driver(gone: gone) }]), roots, gone)
        #expect(try listDirectory("\(folder)/run/residents").isEmpty)
    }

    @Test("It waits for its tenant, until its time is over")
    @Loop func waiting() async throws {
        try await Self.inStore { store, _, gone in
            let wanted = ContainerRecord.Resident(name: "acme", idle: 300)
            do {
                let first = try await store.take(wanted, for: "a")
                #expect(try first.unpark(Self.spec("a"), "names") == nil)
                try await first.begin(Self.spec("a"), "names")
                try first.park(ParkedMachine(id: "a", facts: ["x": "y"]))
                try await first.settle()
            }
            let left = try #require(try store.list().first)
            #expect(left.parked != nil && left.container == "a")
            #expect(try await store.collect { Issue.record("\($0)") } == left.until)
            do {
                let second = try await store.take(wanted, for: "b")
                // Another machine would be taken away first; this one goes on.
                #expect(try second.unpark(Self.spec("b", memory: 1 << 30), "names") == nil)
                #expect(try second.unpark(Self.spec("b"), "names") == ParkedMachine(id: "a", facts: ["x": "y"]))
                #expect(try store.list().first?.parked == nil)
                #expect(try await store.collect { Issue.record("\($0)") } == .max)
                try second.park(ParkedMachine(id: "a", facts: [:]))
                try await second.settle()
            }
            #expect(gone.machines.isEmpty)
            var over = try #require(try store.readNote("acme"))
            over.until = 1
            try store.write(over)
            #expect(try await store.collect { Issue.record("\($0)") } == nil)
            #expect(gone.machines == ["a"])
            await #expect(throws: SandboxError.self) { try await store.end("acme") }
        }
    }

    @Test("What a dead monitor had goes with the next verb, and what a container did not leave goes with it")
    @Loop func ends() async throws {
        try await Self.inStore { store, _, gone in
            let wanted = ContainerRecord.Resident(name: "acme", idle: 300)
            do {
                let lost = try await store.take(wanted, for: "a")
                try await lost.begin(Self.spec("a"), "names")
                withExtendedLifetime(lost) {}
            }
            #expect(try await store.collect { Issue.record("\($0)") } == nil)
            #expect(gone.machines == ["a"])
            do {
                let other = try await store.take(wanted, for: "b")
                try await other.begin(Self.spec("b"), "names")
                // Another shape: the one that is there goes first.
                try await other.begin(Self.spec("c"), "names")
                #expect(gone.machines == ["a", "b"])
                try await other.settle()
            }
            #expect(gone.machines == ["a", "b", "c"])
        }
    }

    @Test("One container at a time; and a name is a file's")
    @Loop func one() async throws {
        try await Self.inStore { store, roots, _ in
            let wanted = ContainerRecord.Resident(name: "acme", idle: 300)
            do {
                let first = try await store.take(wanted, for: "a")
                try await first.begin(Self.spec("a"), "names")
                try makeDirectories(roots.container("a").runtime)
                let monitor = try FileLock.acquire(roots.container("a").lock)
                await #expect { try await store.take(wanted, for: "b") } throws: { "\($0)".contains("has the container a") }
                await #expect(throws: SandboxError.self) { try await store.end("acme") }
                withExtendedLifetime(monitor) {}
                try await first.settle()
            }
            for name in ["", "a", "../x", "a/b", ".ab", String(repeating: "a", count: 65)] {
                await #expect(throws: SandboxError.self) { try await store.take(.init(name: name, idle: 1), for: "a") }
            }
        }
    }
}
