import Machines

extension SnapshotManifest {
    /// Whether its numbers and texts are such as a Hull writes. Somebody else may have written them: no number may be one that a sum of Hull's
    /// cannot hold, and no text one that does something to a terminal.
    var makesSense: Bool {
        let machine = saved.machine
        let resources = container.resources
        let most: UInt64 = 1 << 46
        let memories = [machine.memoryBytes, machine.growth?.memoryBytes ?? 0, resources.memory ?? 0, resources.shm]
        guard memories.allSatisfy({ $0 <= most }), machine.disks.allSatisfy({ $0.size <= most }),
            (1...255).contains(machine.vcpus), (0...4096).contains(machine.growth?.vcpus ?? 1),
            (0...4096).contains(resources.cpus ?? 1), (0...(1 << 31)).contains(resources.pids ?? 0),
            (0...(1 << 31)).contains(container.stopTimeout), saved.lastProcess < 1 << 62, (0...Int64.max).contains(saved.still),
            (0...Int64.max).contains(created)
        else { return false }
        guard machine.disks.count <= 26, machine.mtus.count <= 16, machine.mtus.allSatisfy({ (0...65535).contains($0 ?? 0) }),
            files.count <= 32, container.mounts.count <= 4096, saved.guestName.utf8.count <= 128, saved.facts.count <= 64
        else { return false }
        var texts = [
            name, hull, container.name, container.id, container.hostname, container.root.displayName, saved.guestName,
            machine.hypervisor,
            machine.shareTag ?? "", container.stopSignal,
        ]
        texts += saved.facts.flatMap { [$0.key, $0.value] } + machine.disks.map(\.name)
        return texts.allSatisfy { text in
            text.unicodeScalars.allSatisfy { ($0.value >= 0x20 || $0 == "\t") && !(0x7f...0x9f).contains($0.value) }
        }
    }
}
