import CLinux
import FoundationEssentials
import Glibc
import HostNetwork
public import LinuxSystem
import Storage

/// Containers out of saved ones: a record and disks of their own. What runs in them comes with the monitor's `restore`.
public struct Restoration: Sendable {
    private let store: ContainerStore
    private let snapshot: SnapshotStore.Snapshot
    /// Where its files are.
    public var folder: String { snapshot.folder }

    /// From a snapshot, or from one that is being made and was sealed.
    public init(_ store: ContainerStore, _ snapshot: SnapshotStore.Snapshot) {
        self.store = store
        self.snapshot = snapshot
    }

    /// A container that was made, and the right to restore it: as long as this lives, nobody takes it for a left-over.
    public final class Made: Sendable {
        public let container: Container
        private let lock: FileLock

        fileprivate init(_ container: Container, _ lock: FileLock) {
            self.container = container
            self.lock = lock
        }
    }

    /// Makes one: its record is the saved one's, under a new id and name. A fork is called by its own id where its host name was not chosen by
    /// a person, and publishes no port of the host's that was asked for by number, because the original has it.
    public func make(name: String?, isFork: Bool, origin: String, now: Int64) async throws -> Made {
        var record = snapshot.manifest.container
        let before = record
        record.id = ContainerStore.newIdentifier()
        record.name = name ?? ContainerName.random()
        record.created = now
        record.origin = origin
        if case .image(let reference, let id, _) = record.root {
            record.root = .image(reference: reference, id: id, file: store.roots.container(record.id).disk("root"))
        }
        if isFork {
            if before.hostname == String(before.id.prefix(12)) { record.hostname = String(record.id.prefix(12)) }
            record.network.ports.removeAll { $0.hostPorts != nil }
        }
        // Held from before the container can be seen.
        var lock: FileLock?
        let container = try await store.add(record) { aside in
            lock = try FileLock.acquire("\(aside)/restoring")
            try fill(aside)
        }
        Fault.point("restore:made")
        return Made(container, lock!)
    }

    /// Disks that nobody writes to are linked, the others are copies that share blocks where the filesystem can.
    private func fill(_ aside: String) throws {
        do {
            for disk in snapshot.manifest.saved.machine.disks {
                let target = disk.name == "rw" ? "\(aside)/disk.img" : "\(aside)/disk-\(disk.name)"
                if disk.readOnly {
                    let source = "\(folder)/disk-\(disk.name)"
                    if link(source, target) != 0 { try copySparse(from: source, to: target) }
                } else {
                    try snapshot.copy("disk-\(disk.name)", to: target)
                }
            }
            for name in ["container.log", "container.log.1"] where exists("\(folder)/\(name)") {
                try copySparse(from: "\(folder)/\(name)", to: "\(aside)/\(name)")
            }
        } catch let error as SystemError where error.code == ENOSPC || error.code == EDQUOT {
            throw SandboxError(
                "no room for the disks of the restored container: free some on the filesystem of \(store.roots.data)")
        }
    }
}
