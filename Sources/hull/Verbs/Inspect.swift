import ArgumentParser
import FoundationEssentials
import LinuxSystem
import Sandboxes

struct Inspect: Verb {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Show all that is known of containers, as JSON.")

    @Argument(help: "Names or ids.") var containers: [String]

    private struct Shown: Encodable {
        struct State: Encodable {
            var Status: String
            var Running: Bool
            var Paused: Bool
            var Pid: Int32
            var ExitCode: Int32
            var OOMKilled: Bool
            var Error: String
            var StartedAt: String?
            var FinishedAt: String?
        }
        struct Network: Encodable {
            var Addresses: [String]
            var Ports: [String]
        }
        struct Paths: Encodable {
            var Folder: String
            var LogPath: String
            var Console: String
            var MonitorLog: String
        }
        var Id: String
        var Name: String
        var Created: String
        var State: State
        var Image: String
        var NetworkSettings: Network
        var Paths: Paths
        var Config: ContainerRecord
    }

    func perform() async throws -> Int32 {
        let store = try await openStore()
        let shown = try containers.map { Self.shown(try store.find($0)) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        print(String(decoding: try encoder.encode(shown), as: UTF8.self))
        return 0
    }

    private static func shown(_ container: Container) -> Shown {
        var state = Shown.State(
            Status: container.state.word, Running: ["running", "paused"].contains(container.state.word),
            Paused: container.state.word == "paused", Pid: 0, ExitCode: 0,
            OOMKilled: false, Error: "")
        var network = Shown.Network(Addresses: [], Ports: [])
        switch container.state.status {
        case .created: break
        case .starting(let running), .running(let running):
            state.Pid = running.monitor.pid
            state.StartedAt = Timestamp(nanoseconds: running.started).rfc3339
            network.Addresses = running.addresses
            network.Ports = running.ports
        case .exited(let exit):
            state.ExitCode = exit.code
            state.OOMKilled = exit.oomKilled
            state.Error = exit.error
            state.StartedAt = exit.started.map { Timestamp(nanoseconds: $0).rfc3339 }
            state.FinishedAt = Timestamp(nanoseconds: exit.finished).rfc3339
        }
        return Shown(
            Id: container.id, Name: container.name,
            Created: Timestamp(nanoseconds: container.record.created).rfc3339, State: state,
            Image: container.record.root.displayName, NetworkSettings: network,
            Paths: .init(
                Folder: container.paths.folder, LogPath: container.paths.log,
                Console: container.paths.console,
                MonitorLog: container.paths.monitorLog),
            Config: container.record)
    }
}
