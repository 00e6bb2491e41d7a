import ArgumentParser
import Sandboxes

struct FileOptions: ParsableArguments {
    @Option(
        name: [.customShort("v", allowingJoined: true), .customLong("volume")],
        help: ArgumentHelp("A folder or file of the host, or a volume.", valueName: "[source:]destination[:ro]"))
    var volume: [String] = []
    @Option(
        name: .long,
        help: ArgumentHelp("The same, spelled out.", valueName: "type=bind|volume|tmpfs,source=…,destination=…"))
    var mount: [String] = []
    @Option(name: .long, help: ArgumentHelp("Memory as a folder.", valueName: "destination[:size=…]")) var tmpfs: [String] = []
    @Flag(name: .long, help: "The root filesystem cannot be written.") var readOnly = false
    @Option(name: .long, help: "Size of /dev/shm.") var shmSize: String?

    func apply(to request: inout RunRequest) throws {
        request.mounts =
            try volume.map { try MountFlags.volume($0) } + mount.map { try MountFlags.mount($0) }
            + tmpfs.map { try MountFlags.tmpfs($0) }
        for index in request.mounts.indices {
            if case .bind(let path) = request.mounts[index].source {
                request.mounts[index].source = .bind(Globals.absolute(path))
            }
        }
        request.readOnlyRoot = readOnly
        if let shmSize {
            guard let bytes = ByteCount.parse(shmSize), bytes > 0 else {
                throw SandboxError("invalid --shm-size \"\(shmSize)\": write e.g. 64m")
            }
            request.resources.shm = bytes
        }
    }
}
