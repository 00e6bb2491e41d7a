import FoundationEssentials
import Glibc
public import LinuxSystem

/// What asks a running container's monitor to save it.
@Loop
public final class Saving {
    private let client: MonitorClient
    private let ends: Bool
    /// What was saved, once it was; not sealed yet.
    public private(set) var manifest: SnapshotManifest

    /// Saves a container to the folder of `making`, or what is different from `parent` there. With `ends` it stands still then, until `end` or
    /// the end of this object's connection.
    public init(
        _ container: Container, to making: SnapshotStore.Making, ends: Bool, parent: SnapshotStore.Snapshot? = nil, hull: String
    ) async throws {
        client = try MonitorClient(to: container)
        self.ends = ends
        let isEngines = container.record.engine != nil
        try await client.ask(
            isEngines
                ? .engine(.save(folder: making.folder, ends: ends))
                : .save(folder: making.folder, ends: ends, parent: parent?.folder))
        let text: String
        switch try await client.answer() {
        case .document(let document): text = document
        case .failed(let sentence, let code): throw SandboxError(sentence, exitCode: code)
        default: throw SandboxError("the monitor gave an answer that does not fit the question")
        }
        let saved = try JSONDecoder().decode(SavedState.self, from: Data(text.utf8))
        Fault.point("snapshot:saved")
        manifest = SnapshotManifest(
            name: container.name, hull: hull, created: Timestamp.now.nanoseconds, container: container.record, saved: saved)
        // A monitor of an older Hull has saved all.
        if !exists("\(making.folder)/memory") { manifest.set(parent: parent) }
    }

    /// Ends a container that was to end: what was saved is safe.
    public func end() async throws {
        guard ends else { return }
        try await client.say(.end)
        try await client.expectDone()
    }
}

extension Channel {
    /// Tells a verb what was saved; with `ends`, whether it wants the end.
    func report(_ state: SavedState, ends: Bool) async throws -> Bool {
        try await send(Reply.document(try state.text))
        guard ends, let (later, _) = try await receive(Later.self), case .end = later else { return false }
        return true
    }
}
