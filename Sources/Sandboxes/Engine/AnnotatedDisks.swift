import AgentProtocol
import Glibc
import LinuxSystem
import Machines
import Storage

/// The disks that a bundle's annotations ask for, held for the machine's life: no two machines may have one.
struct AnnotatedDisks {
    private let all: [DiskAnnotation]
    private let locks: [FileLock]

    /// Makes and formats what is missing, and locks all.
    @Loop
    init(_ all: [DiskAnnotation], _ roots: Roots) async throws {
        self.all = all
        var locks: [FileLock] = []
        for disk in all {
            var status = stat()
            if lstat(disk.path, &status) != 0 {
                try await WritableDisk.make(disk.path, sizeBytes: disk.size, templates: "\(roots.cache)/disks")
            }
            try checked("look at", disk.path) { lstat(disk.path, &status) }
            guard status.st_mode & S_IFMT == S_IFREG else {
                throw SandboxError("the disk \(disk.path) is no file", exitCode: 1)
            }
            // Not the file itself, which the VMM locks.
            try makeDirectories("\(roots.runtime)/disks")
            guard let lock = try FileLock.attempt("\(roots.runtime)/disks/\(status.st_dev)-\(status.st_ino)") else {
                throw SandboxError("the disk \(disk.path) is in use by another machine", exitCode: 1)
            }
            locks.append(lock)
        }
        self.locks = locks
    }

    private static func name(_ index: Int) -> String { "disk\(index)" }

    /// For the machine.
    var disks: [Disk] { all.enumerated().map { Disk(name: Self.name($0), path: $1.path, readOnly: false) } }

    /// For the container: before its other mounts, so that those may be below. An empty one gets what the image has at the place.
    func mounts(_ layout: GuestLayout) throws -> [MountConfiguration] {
        try all.enumerated().map { index, disk in
            guard let place = layout.disks[Self.name(index)] else {
                throw SandboxError("the driver does not show the guest the disk \(disk.path)", exitCode: 1)
            }
            var mount = MountConfiguration()
            mount.destination = disk.mount
            mount.kind = .disk
            mount.source = place.path
            mount.type = disk.filesystem
            mount.copyUp = true
            return mount
        }
    }
}
