import ArgumentParser
import Sandboxes

struct Ps: Verb {
    static let configuration = CommandConfiguration(commandName: "ps", abstract: "List containers.")

    @Flag(name: .shortAndLong, help: "Also those that do not run.") var all = false
    @Flag(name: .shortAndLong, help: "Only ids.") var quiet = false
    @Flag(name: .long, help: "Whole ids and commands.") var noTrunc = false
    @Option(name: [.customShort("n"), .long], help: "The last so many, running or not.") var last: Int?
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Only those that fit: name, id, status, label, ancestor, exited.", valueName: "key=value"))
    var filter: [String] = []
    @Option(name: .long, help: "json, or a template such as '{{.Names}}'.") var format: String?

    func perform() async throws -> Int32 {
        let filters = try filter.map { try Filter($0) }
        let everything =
            all || last != nil || filters.contains { $0.key == "status" || $0.key == "exited" }
        var containers = try await openStore().list().filter { container in
            (everything || ["running", "paused"].contains(container.state.word)) && Filter.matches(filters, container)
        }
        if let last { containers = Array(containers.prefix(last)) }
        let table = Table(
            columns: [
                .init(key: "ID", title: "CONTAINER ID"), .init(key: "Image", title: "IMAGE"),
                .init(key: "Command", title: "COMMAND"),
                .init(key: "CreatedAgo", title: "CREATED"), .init(key: "Status", title: "STATUS"),
                .init(key: "Ports", title: "PORTS"),
                .init(key: "Names", title: "NAMES"),
            ],
            rows: containers.map(row))
        try table.print(format: format, quiet: quiet)
        return 0
    }

    private func row(_ container: Container) -> [String: String] {
        let record = container.record
        let command = record.process.arguments.joined(separator: " ")
        let shown = noTrunc || command.count <= 20 ? command : "\(command.prefix(19))…"
        var ports: [String] = []
        if case .running(let running) = container.state.status { ports = running.ports }
        return [
            "ID": noTrunc ? record.id : String(record.id.prefix(12)), "Image": record.root.displayName,
            "Command": "\"\(shown)\"",
            "CreatedAgo": Ago.text(record.created),
            "CreatedAt": Timestamp(nanoseconds: record.created).rfc3339,
            "Status": container.statusText, "State": container.state.word,
            "Ports": ports.joined(separator: ", "), "Names": record.name,
            "Labels": record.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(
                separator: ","),
            "Hypervisor": record.machine.hypervisor,
        ]
    }
}

extension Container {
    /// `Up 3 minutes`, `Exited (0) 2 hours ago`, `Created`.
    var statusText: String {
        switch state.status {
        case .created, .starting: "Created"
        case .running(let running):
            "Up \(Ago.duration(Timestamp.now.nanoseconds - running.started))" + (running.paused == true ? " (Paused)" : "")
        case .exited(let exit): "Exited (\(exit.code)) \(Ago.text(exit.finished))"
        }
    }
}

/// One `--filter key=value`. Filters of one key are alternatives, those of different keys must all fit, as with Docker.
struct Filter {
    static let keys = ["name", "id", "status", "label", "ancestor", "exited"]
    var key: String
    var value: String

    init(_ text: String) throws {
        let pair = text.split(separator: "=", maxSplits: 1).map(String.init)
        guard pair.count == 2, Self.keys.contains(pair[0]) else {
            throw ValidationError(
                "invalid filter \"\(text)\": write KEY=VALUE with one of \(Self.keys.joined(separator: ", "))"
            )
        }
        key = pair[0]
        value = pair[1]
    }

    static func matches(_ filters: [Filter], _ container: Container) -> Bool {
        Set(filters.map(\.key)).allSatisfy { key in
            let same = filters.filter { $0.key == key }
            return key == "label"
                ? same.allSatisfy { $0.matches(container) } : same.contains { $0.matches(container) }
        }
    }

    private func matches(_ container: Container) -> Bool {
        switch key {
        case "name": return container.name.contains(value)
        case "id": return container.id.hasPrefix(value)
        case "status": return container.state.word == value
        case "ancestor": return container.record.root.displayName == value
        case "exited":
            if case .exited(let exit) = container.state.status { return String(exit.code) == value }
            return false
        default:
            let pair = value.split(separator: "=", maxSplits: 1).map(String.init)
            guard let mine = container.record.labels[pair[0]] else { return false }
            return pair.count == 1 || mine == pair[1]
        }
    }
}
