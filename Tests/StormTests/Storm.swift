import FoundationEssentials
import Glibc
import LinuxSystem
import Netlink
import Testing

/// One after the other: each has the machine for itself, as far as it can.
@Suite(.serialized, .enabled(if: Storm.canRun))
enum Storms {}

/// Where Hull is run, killed and looked at from outside: roots of its own and a network namespace of its own. What it knows of
/// Hull is its command line, its files, and what the kernel shows.
@Loop
final class Storm {
    let folder: String
    let network: NetworkNamespace
    var data: String { "\(folder)/data" }
    var runtime: String { "\(folder)/run" }

    nonisolated private static let repository = String(#filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined())
    nonisolated static let program = path("HULL_BIN", "\(repository)/bin/hull")
    nonisolated static let image = "oci-archive:" + path("HULL_IMAGES", "\(repository)/.build/images") + "/busybox.tar"
    nonisolated private static func path(_ name: String, _ other: String) -> String {
        getenv(name).map { String(cString: $0) } ?? other
    }

    /// Why no storm can be made here; nil when it can.
    nonisolated static let obstacle: String? =
        geteuid() != 0
        ? "root is needed"
        : access(program, X_OK) != 0
            ? "\(program) is missing: make build" : exists(String(image.dropFirst(12))) ? nil : "make images"

    nonisolated static var canRun: Bool {
        // The tests run on it.
        Loop.runInBackground()
        if let obstacle { print("skipped: \(obstacle)") }
        return obstacle == nil
    }

    /// The image is there already, so that every run that follows only runs.
    static func make() async throws -> Storm {
        let storm = try Storm()
        let first = try await storm.hull("run", "--rm", "--network", "none", image, "true")
        guard first.code == 0 else { throw Surprise("a plain run failed: \(first.error)") }
        return storm
    }

    private init() throws {
        folder = "/tmp/hull-storm-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        try makeDirectories(folder)
        network = try NetworkNamespace.make()
        let routes = try RouteSocket(in: network)
        try routes.change(routes.index(of: "lo"), up: true)
    }

    /// Ends all that runs, and forgets everything.
    func remove() async throws {
        for container in try await containers() { _ = try await hull("rm", "--force", container.id) }
        _ = try await hull("template", "rm", "--all")
        try await withDeadline(.seconds(60), awaiting: "the end of the keepers of templates") {
            while try !self.keepers().isEmpty { try await sleep(for: .milliseconds(20)) }
        }
        try removeTree(folder)
    }

    // MARK: running Hull

    struct Result: Sendable {
        var code: Int32
        var output: String
        var error: String
    }

    func spawn(_ arguments: [String], fault: String? = nil) -> Spawn {
        var how = Spawn(
            Self.program, arguments,
            environment: [
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HULL_ROOT=\(data)", "HULL_EXEC_ROOT=\(runtime)",
            ] + (fault.map { ["HULL_FAULT=\($0)"] } ?? []))
        how.networkNamespace = network.descriptor
        return how
    }

    func hull(_ arguments: String..., fault: String? = nil) async throws -> Result { try await hull(arguments, fault: fault) }

    func hull(_ arguments: [String], fault: String? = nil) async throws -> Result {
        let how = spawn(arguments, fault: fault)
        // Twenty machines may boot at once on two processors, with other work beside them.
        let output = try await withDeadline(.seconds(300), awaiting: "hull \(arguments.joined(separator: " ")) (\(fault ?? ""))")
        {
            try await how.run()
        }
        return Result(
            code: output.status.shellCode, output: String(decoding: output.standardOutput, as: UTF8.self), error: output.complaint
        )
    }

    /// One line of `hull ps`.
    struct Listed: Decodable, Sendable {
        var id: String
        var name: String
        var state: String
        var status: String
        enum CodingKeys: String, CodingKey {
            case id = "ID"
            case name = "Names"
            case state = "State"
            case status = "Status"
        }
    }

    /// What `hull ps -a` says: a verb, so it reaps.
    func containers() async throws -> [Listed] {
        let result = try await hull("ps", "-a", "--no-trunc", "--format", "json")
        guard result.code == 0, result.error.isEmpty else { throw Surprise("hull ps: \(result.error)") }
        return try result.output.split(separator: "\n").map { try JSONDecoder().decode(Listed.self, from: Data($0.utf8)) }
    }

    func container(_ name: String) async throws -> Listed? { try await containers().first { $0.name == name } }

    /// The id of a container by its record, without any verb.
    func identifier(_ name: String) throws -> String? {
        guard exists("\(data)/containers") else { return nil }
        for id in try listDirectory("\(data)/containers") {
            // It may be gone.
            if let text = try? readText("\(data)/containers/\(id)/container.json"), text.contains("\"name\":\"\(name)\"") {
                return id.split(separator: "-").last.map(String.init)
            }
        }
        return nil
    }

    /// Waits, by the state file, until a container runs.
    func running(_ name: String) async throws -> String {
        try await withDeadline(.seconds(90), awaiting: "\(name) running") {
            while true {
                if let id = try self.identifier(name),
                    let state = try? readText("\(self.data)/containers/\(id)/state.json"),  // being made
                    state.contains("\"running\"")
                {
                    return id
                }
                try await sleep(for: .milliseconds(10))
            }
        }
    }
}

struct Surprise: Error, CustomStringConvertible {
    var description: String
    init(_ text: String) { description = text }
}
