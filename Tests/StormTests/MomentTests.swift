import Glibc
import LinuxSystem
import Testing

extension Storms {
    /// SIGKILL at moments that nobody chose: HULL_STORM of them (default 50), from HULL_STORM_SEED.
    @Suite(.serialized, .timeLimit(.minutes(60)))
    struct MomentTests {
        nonisolated private static func number(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }

        struct Moment: Sendable {
            static let victims = ["verb", "monitor", "qemu", "virtiofsd"]
            static let verbs = ["create", "run", "exec", "stop", "rm"]
            var number: Int
            var verb: String
            var victim: String
            var milliseconds: Int
        }

        @Test @Loop func moments() async throws {
            let seed = Self.number("HULL_STORM_SEED") ?? UInt64.random(in: 0...999_999)
            let count = Int(Self.number("HULL_STORM") ?? 50)
            print("storm: \(count) moments; HULL_STORM_SEED=\(seed) repeats them")
            var random = SeededRandom(state: seed)
            let moments = (0..<count).map { number in
                let verb = Moment.verbs.randomElement(using: &random)!
                // A create is over in a moment, a run boots first.
                let most = verb == "create" ? 60 : verb == "run" ? 2500 : 400
                return Moment(
                    number: number, verb: verb, victim: Moment.victims.randomElement(using: &random)!,
                    milliseconds: Int.random(in: 0...most, using: &random))
            }
            let storm = try await Storm.make()
            try makeDirectories("\(storm.folder)/share")
            try await Crowd.each(moments, atOnce: 4) { moment in try await Self.suffer(moment, storm) }
            #expect(try await storm.containers().isEmpty)
            #expect(try await storm.leftAtLast() == [], "HULL_STORM_SEED=\(seed)")
            try await storm.remove()
        }

        @Loop private static func suffer(_ moment: Moment, _ storm: Storm) async throws {
            let name = "storm-\(moment.number)"
            let made = [
                "--name", name, "--network", moment.number % 3 == 0 ? "bridge" : "none", "-v", "\(storm.folder)/share:/s",
                Storm.image,
            ]
            let verb: [String]
            switch moment.verb {
            case "create": verb = ["create"] + made + ["true"]
            case "run": verb = ["run"] + made + ["sh", "-c", "sleep 0.3; exit 3"]
            default:
                let begun = try await storm.hull(["run", "-d"] + made + ["sleep", "60"])
                #expect(begun.code == 0, "\(moment): \(begun)")
                verb =
                    moment.verb == "exec"
                    ? ["exec", name, "sleep", "0.2"]
                    : moment.verb == "stop" ? ["stop", "-t", "0", name] : ["rm", "--force", name]
            }
            let child = try storm.spawn(verb).spawn()
            try await sleep(for: .milliseconds(moment.milliseconds))
            let id = try storm.identifier(name)
            if moment.victim == "verb" {
                child.signal(SIGKILL)
            } else if let id, let victim = try storm.processes(id).first(where: { $0.role == moment.victim }) {
                kill(victim.pid, SIGKILL)
            }
            _ = try await withDeadline(.seconds(150), awaiting: "the end of \(moment)") { try await child.wait() }
            // A verb that was quicker than our look at it has made one all the same.
            guard let id = try id ?? storm.identifier(name) else { return }
            if moment.victim == "monitor" {
                #expect(try await storm.leftBefore(id) == [] || moment.verb == "create", "\(moment)")
            }
            // The truth: what is called running has a monitor, what is not has none (one that is about to end is given its second).
            let listed = try await storm.container(name)
            if listed?.state != "running" && listed?.status != "Created" {
                #expect(try await storm.leftBefore(id) == [], "\(moment): \(String(describing: listed))")
            }
            let removed = try await storm.hull("rm", "--force", name)
            #expect(removed.code == 0, "\(moment): \(removed)")
            #expect(try await storm.leftBefore(id) == [], "\(moment)")
            #expect(try await storm.container(name) == nil, "\(moment)")
            #expect(try storm.leftAfter(id) == [], "\(moment)")
        }
    }
}
