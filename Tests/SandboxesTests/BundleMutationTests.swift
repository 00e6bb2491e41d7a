import AgentProtocol
import Foundation
import OCISpec
import Testing

@testable import Sandboxes

/// Engines' documents, changed at random: whatever comes is planned or refused, and nothing traps. HULL_FUZZ is how many, HULL_FUZZ_SEED
/// where the random numbers begin.
@Suite struct BundleMutationTests {
    private static func number(_ name: String, _ fallback: UInt64) -> UInt64 {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } ?? fallback
    }

    private static let texts = [
        "", "/", "..", "/../..", "a\0b", "\u{FFFD}", String(repeating: "x", count: 5000), "-1", "0-9223372036854775807", "9-1",
        "1-2-3",
        ",,,", "SCMP_ACT_ERRNO", "user", "network", "bind", "tmpfs", "/proc/1/ns/net", "RLIMIT_X", "gid=4294967296", "gid=5",
    ]
    private static let numbers: [NSNumber] = [
        0, -1, 1, 2, 255, 65535, 65536, NSNumber(value: Int64.max), NSNumber(value: Int64.min), NSNumber(value: UInt64.max),
        NSNumber(value: UInt32.max), 1.5, 1e300,
    ]

    private static func mutate(_ value: Any, _ numbers: inout SeededRandom, _ depth: Int = 0) -> Any {
        // Seldom near the top, where all below it would be lost.
        let here = Int.random(in: 0..<(depth < 3 ? 80 : 12), using: &numbers)
        if here == 0 { return Self.texts.randomElement(using: &numbers)! }
        if here == 1 { return Self.numbers.randomElement(using: &numbers)! }
        if here == 2, depth > 0 { return NSNull() }
        if here == 3, depth > 0 { return [Any]() }
        if here == 4, depth > 0 { return [String: Any]() }
        if let object = value as? [String: Any], let key = object.keys.sorted().randomElement(using: &numbers) {
            var changed = object
            changed[key] = here == 5 ? nil : mutate(object[key]!, &numbers, depth + 1)
            return changed
        }
        if let list = value as? [Any], let index = list.indices.randomElement(using: &numbers) {
            var changed = list
            if here == 5 { changed.remove(at: index) } else { changed[index] = mutate(list[index], &numbers, depth + 1) }
            if here == 6 { changed.append(list[index]) }
            return changed
        }
        if value is NSNumber { return Self.numbers.randomElement(using: &numbers)! }
        return Self.texts.randomElement(using: &numbers)!
    }

    /// Whether it was planned.
    private static func plan(_ document: [UInt8]) throws -> Bool {
        let plan: BundlePlan
        do { plan = try BundlePlan(try RuntimeSpec(parsing: document), bundle: "/bundle") } catch { return false }
        _ = plan.network
        _ = plan.rootfs
        _ = plan.cgroup(id: "x", systemd: true)
        let record = plan.record(root: "/run/engine", id: "x", name: "x", now: 0)
        let planner = Planner(record)
        _ = (planner.memory, planner.processors)
        let configuration = plan.container(id: record.id)
        #expect(try ContainerConfiguration(decoding: configuration.encoded(), elements: Limits.elements) == configuration)
        do { try AnnotationPolicy().check(plan.spec.annotations ?? [:]) } catch is SandboxError {}
        guard let settings = plan.spec.process else { return true }
        do {
            let process = try plan.process(
                settings, container: record.id, number: 1, isExec: false, streams: Streams(), filter: try plan.filter())
            #expect(try ProcessConfiguration(decoding: process.encoded(), elements: Limits.elements) == process)
        } catch is SandboxError { return false }
        return true
    }

    /// Plans an exec of it, or is refused.
    private func exec(_ process: ProcessSpec, in plan: BundlePlan) throws {
        do {
            let made = try plan.process(process, container: "x", number: 2, isExec: true, streams: Streams(), filter: [])
            #expect(try ProcessConfiguration(decoding: made.encoded(), elements: Limits.elements) == made)
        } catch is SandboxError {}
    }

    @Test func changedAtRandom() throws {
        let seed = Self.number("HULL_FUZZ_SEED", 20_261_121)
        var numbers = SeededRandom(state: seed)
        let names = try FileManager.default.contentsOfDirectory(atPath: BundlePlanTests.folder.path).filter {
            $0.hasSuffix(".json")
        }
        .sorted()
        try #require(names.count > 5)
        let documents = try names.map { try Data(contentsOf: BundlePlanTests.folder.appendingPathComponent($0)) }
        let box = try BundlePlanTests.plan("docker-1")
        var planned = 0
        let count = Int(Self.number("HULL_FUZZ", 500))
        for _ in 0..<count {
            let data = documents.randomElement(using: &numbers)!
            var bytes: [UInt8]
            if Int.random(in: 0..<4, using: &numbers) == 0 {
                // Bytes of it.
                bytes = Array(data)
                for _ in 0..<Int.random(in: 1...8, using: &numbers) {
                    bytes[Int.random(in: 0..<bytes.count, using: &numbers)] = UInt8.random(in: 0...255, using: &numbers)
                }
                if Bool.random(using: &numbers) { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &numbers)) }
            } else {
                var object = try JSONSerialization.jsonObject(with: data)
                for _ in 0..<Int.random(in: 1...4, using: &numbers) { object = Self.mutate(object, &numbers) }
                guard JSONSerialization.isValidJSONObject(object) else { continue }
                bytes = Array(try JSONSerialization.data(withJSONObject: object))
            }
            if try Self.plan(bytes) { planned += 1 }
            // As an exec's, and as an update's.
            if let process = try? ProcessSpec(parsing: bytes) { try exec(process, in: box) }  // most are none
            if let resources = try? ResourceLimits(parsing: bytes) { _ = BundlePlan.limits(resources) }  // as above
        }
        // Where nothing were planned, nothing would be tested.
        #expect(planned > count / 10, "\(planned) of \(count), seed \(seed)")
    }
}
