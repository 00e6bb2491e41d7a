import LinuxSystem
import Testing

extension Storms {
    /// Hull is killed at every step that it names (`Fault.point`), enumerated from the sources.
    @Suite(.serialized, .timeLimit(.minutes(20)))
    struct FaultTests {
        /// Points of the monitor in the order of a run, and whether the container's end is on disk by then.
        nonisolated static let monitor: [(point: String, saved: Bool)] =
            [
                "intend:folder", "made:folder", "saved:starting", "intend:cgroup", "made:cgroup", "intend:identifiers",
                "made:identifiers",
                "machine:start", "machine:started", "agent:hello", "saved:running", "container:exited", "machine:ended", "undo",
            ].map { ($0, false) }
            + [
                "saved:exited", "undo:identifiers", "undone:identifiers", "undo:cgroup", "undone:cgroup", "undo:folder",
                "removed:sight", "undone:folder",
            ].map { ($0, true) }
        /// Those of the network, which is taken back before the container's end is on disk; and whether the container had started.
        nonisolated static let network: [(point: String, started: Bool)] = [
            ("intend:network", false), ("made:network", false), ("network:connected", false), ("undo:network", true),
            ("undone:network", true),
        ]

        /// Points of the maker of templates.
        nonisolated static let clone = ["clone:disk"]
        nonisolated static let templates = ["template:begun", "template:saved", "template:published"]
        /// Points of the keeper of a template that is awake.
        nonisolated static let awake = ["awake:begun", "awake:ready"]

        /// The lists above name every point that the sources have.
        @Test func listsAreWhole() throws {
            let kinds = ["folder", "cgroup", "identifiers", "network"]
            let named = Set(
                Self.monitor.map(\.point) + Self.network.map(\.point) + ["create:rename", "remove:renamed", "reap:saved"]
                    + Self.templates + Self.awake + Self.clone)
            let found = try SourcePoints.all().flatMap { point in
                point.hasSuffix(":\\(resource.kind)") ? kinds.map { "\(point.split(separator: ":")[0]):\($0)" } : [point]
            }
            #expect(Set(found) == named)
        }

        /// `run --rm`: gone with its end, wherever the monitor was killed.
        @Test @Loop func runAndRemove() async throws {
            let storm = try await Storm.make()
            try await Crowd.each(Self.monitor + [("remove:renamed", true)], atOnce: 1) { point, _ in
                let name = "rm-" + point.replacingColons
                let run = try await storm.hull(
                    "run", "--rm", "--name", name, "--network", "none", Storm.image, "sh", "-c", "exit 3", fault: point)
                #expect(run.code != 0 && run.code != 3, "\(point): \(run)")
                #expect(!run.error.isEmpty, "\(point): killed without a word")
                try await Self.check(storm, name, point)
                #expect(try await storm.container(name) == nil, "\(point): --rm")
            }
            #expect(try await storm.leftAtLast() == [])
            try await storm.remove()
        }

        /// `start` of one that stays: exited, with its own code where that was known, else 137; created where nothing had begun.
        @Test @Loop func start() async throws {
            let storm = try await Storm.make()
            try await Crowd.each(Self.monitor, atOnce: 1) { point, saved in
                let name = "start-" + point.replacingColons
                let made = try await storm.hull("create", "--name", name, "--network", "none", Storm.image, "sh", "-c", "exit 3")
                #expect(made.code == 0, "\(made)")
                let start = try await storm.hull("start", "-a", name, fault: point)
                #expect(start.code != 0, "\(point): \(start)")
                try await Self.check(storm, name, point)
                let status = try #require(try await storm.container(name)).status
                if point == "intend:folder" || point == "made:folder" {
                    #expect(status == "Created", "\(point)")
                } else {
                    #expect(status.hasPrefix(saved ? "Exited (3)" : "Exited (137)"), "\(point): \(status)")
                }
                #expect(try await storm.hull("rm", name).code == 0)
            }
            #expect(try await storm.leftAtLast() == [])
            try await storm.remove()
        }

        /// `run -d` on the bridge, alone, so that what the bridge shares must go too; the reaping verb is killed as well.
        @Test @Loop func network() async throws {
            let storm = try await Storm.make()
            for (point, started) in Self.network {
                let name = "net-" + point.replacingColons
                let run = try await storm.hull(
                    "run", "-d", "--name", name, "-p", "127.0.0.1:8080:80", Storm.image, "sh", "-c", "exit 3", fault: point)
                let id = try #require(try storm.identifier(name))
                if started {
                    #expect(run.code == 0, "\(point): \(run)")
                    try await Self.untilMonitorEnds(storm, id)
                } else {
                    #expect(run.code != 0, "\(point): \(run)")
                }
                try await Self.check(storm, name, point, taps: true, reaperFault: "reap:saved")
                #expect(try await storm.leftAtLast() == [], "\(point)")
                #expect(try await storm.container(name)?.status.hasPrefix("Exited (137)") == true, "\(point)")
            }
            try await storm.remove()
        }

        /// The verbs themselves, killed while they make and remove.
        @Test @Loop func makingAndRemoving() async throws {
            let storm = try await Storm.make()
            let create = try await storm.hull(
                "create", "--name", "half", "--network", "none", Storm.image, "true", fault: "create:rename")
            #expect(create.code == 137)
            #expect(try await storm.containers().isEmpty)
            #expect(try await storm.hull("create", "--name", "half", "--network", "none", Storm.image, "true").code == 0)
            #expect(try await storm.hull("rm", "half", fault: "remove:renamed").code == 137)
            #expect(try await storm.containers().isEmpty)
            #expect(try await storm.leftAtLast() == [])
            try await storm.remove()
        }

        /// The maker of templates, killed: the old or the new is there, never a half, and the next verb takes back what is left.
        @Test @Loop func makingTemplates() async throws {
            let storm = try await Storm.make()
            // The one that the first start leaves behind: from then on nobody makes any but this test.
            try await withDeadline(.seconds(200), awaiting: "the first start's template") {
                while try await storm.hull("template", "ls", "-q").output.isEmpty { try await sleep(for: .milliseconds(100)) }
            }
            _ = try await storm.leftAtLast()
            for point in Self.templates {
                // The wish that a killed maker did not fulfil is fulfilled after the next start.
                try await Self.untilTemplatesAreMade(storm)
                #expect(try await storm.hull("template", "rm", "--all").code == 0)
                #expect(try await storm.hull("template", "build", "--network", "none", fault: point).code != 0, "\(point)")
                let keys = try await storm.hull("template", "ls", "-q").output.split(separator: "\n")
                #expect(keys.count == (point == "template:published" ? 1 : 0), "\(point): \(keys)")
                #expect(try storm.leftOfTemplates() == [], "\(point)")
                let run = try await storm.hull(
                    "run", "--rm", "--no-template", "--network", "none", Storm.image, "sh", "-c", "exit 3")
                #expect(run.code == 3, "\(point): \(run)")
            }
            // A clone killed with its disk just put in its place.
            #expect(try await storm.hull("template", "build", "--network", "none").code == 0)
            for point in Self.clone {
                let run = try await storm.hull("run", "--name", "cloned", "--network", "none", Storm.image, "true", fault: point)
                #expect(run.code != 0, "\(point): \(run)")
                try await Self.check(storm, "cloned", point)
                #expect(try await storm.hull("start", "-a", "cloned").code == 0)
                #expect(try await storm.hull("rm", "cloned").code == 0)
            }
            // A keeper killed: its machine goes with it, starts do without, and the next verb takes back what is left.
            for point in Self.awake {
                #expect(try await storm.hull("template", "rm", "--all").code == 0)
                let build = try await storm.hull("template", "build", "--network", "none", fault: point)
                #expect(build.code == 0, "\(point): \(build)")
                try await withDeadline(.seconds(60), awaiting: "the end of the keeper") {
                    while try storm.keepers().isEmpty || storm.keepers().contains(where: \.isHeld) {
                        try await sleep(for: .milliseconds(20))
                    }
                }
                #expect(try await storm.hull("run", "--rm", "--network", "none", Storm.image, "true").code == 0, "\(point)")
                #expect(try await storm.leftAtLast() == [], "\(point)")
            }
            try await Self.untilTemplatesAreMade(storm)
            #expect(try await storm.leftAtLast() == [])
            try await storm.remove()
        }

        @Loop private static func untilTemplatesAreMade(_ storm: Storm) async throws {
            try await withDeadline(.seconds(200), awaiting: "the templates that are wanted") {
                while try !storm.templatesAreMade() { try await sleep(for: .milliseconds(100)) }
            }
        }

        @Loop private static func untilMonitorEnds(_ storm: Storm, _ id: String) async throws {
            try await withDeadline(.seconds(30), awaiting: "the end of the monitor") {
                while try storm.processes(id).contains(where: { $0.role == "monitor" }) {
                    try await sleep(for: .milliseconds(20))
                }
            }
        }

        /// Nothing before a verb that the kernel should have taken, nothing at all after one.
        @Loop private static func check(
            _ storm: Storm, _ name: String, _ point: String, taps: Bool = false, reaperFault: String? = nil
        ) async throws {
            // With --rm its record may be gone already, and with it the way from the name to the id.
            guard let id = try storm.identifier(name) else {
                _ = try await storm.containers()
                return
            }
            #expect(try await storm.leftBefore(id, taps: taps) == [], "\(point), before a verb")
            if let reaperFault { #expect(try await storm.hull("ps", fault: reaperFault).code == 137) }
            _ = try await storm.containers()
            #expect(try storm.leftAfter(id) == [], "\(point), after a verb")
        }
    }
}

extension String {
    var replacingColons: String { String(map { $0 == ":" ? "-" : $0 }) }
}

/// The points that the sources name.
enum SourcePoints {
    static func all() throws -> [String] {
        let sources = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/Sources/Sandboxes"
        return try listDirectory(sources).filter { $0.hasSuffix(".swift") }.flatMap { file in
            try readText("\(sources)/\(file)").split(separator: "\n").compactMap { line in
                let parts = line.split(separator: "Fault.point(\"", maxSplits: 1)
                guard parts.count == 2 || line.contains("Fault.point(\""), let end = parts.last?.lastIndex(of: "\"") else {
                    return nil
                }
                return String(parts.last![..<end])
            }
        }
    }
}
