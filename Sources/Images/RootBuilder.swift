import CLinux
import Glibc
import LinuxSystem
import OCISpec

/// Layers → one EROFS image, by `hull-unpack`, which is confined: it sees the layers, an empty folder, and nothing else.
struct RootBuilder {
    var store: ImageStore
    /// For sentences.
    var name: String
    var layers: [Descriptor]
    var diffs: [Digest]
    var progress: PullProgress?

    /// The root's file name: its format's version and its layers' chain.
    static func fileName(_ config: ImageConfig) -> String {
        "1-\((config.chainID ?? SHA256.digest([])).hex).erofs"
    }

    /// What a running program's lines say.
    @Loop private final class Tally {
        nonisolated init() {}
        var layer = 0
        var size: Int64 = 0
        var written: Int64 = 0
    }

    /// Builds it at `target`, unless somebody did meanwhile; the size is nil then.
    func build(_ fileName: String) async throws -> Int64? {
        let target = store.path(ofRoot: fileName)
        let lockPath = "\(store.root)/ingest/root-\(fileName).lock"
        let lock = try await waitForLock(lockPath, time: store.limits.time, awaiting: "another build of \(name)")
        defer {
            unlink(lockPath)
            withExtendedLifetime(lock) {}
        }
        if exists(target) { return nil }
        let staging = try Staging.make(in: "\(store.root)/ingest")
        do {
            let (size, holes) = try await unpack(into: "\(staging.path)/tree")
            try await format(in: staging.path, uuid: uuid(fileName), isSparse: holes > 64 << 20)
            let made = "\(staging.path)/root.erofs"
            let file = try openFile(made, O_RDWR)
            try Superblock.settle(file.raw, made)
            try lengthen(file.raw, made)
            try checked("write to the disk", made) { fsync(file.raw) }
            try checked("rename", made) { rename(made, target) }
            try staging.discard()
            return size
        } catch {
            try staging.discard()
            throw error
        }
    }

    private static let namespaces =
        Int32(CLONE_NEWNS) | Int32(CLONE_NEWPID) | Int32(CLONE_NEWNET) | Int32(CLONE_NEWIPC) | Int32(CLONE_NEWUTS)
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETFCAP, and SYS_ADMIN, which it gives up as soon as its mounts are made.
    private static let capabilities: UInt64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 31 | 1 << 21

    func confined(_ arguments: [String], in folder: String, _ descriptors: [SharedDescriptor] = []) -> Spawn {
        var how = Spawn(store.tools.unpack, arguments, environment: [])
        how.namespaces = Self.namespaces
        how.directory = folder
        how.capabilities = Self.capabilities
        how.descriptors = descriptors.enumerated().map { (from: $1, to: Int32(3 + $0)) }
        let files = UInt64(2048 + layers.count)
        how.limits = [(Int32(RLIMIT_NOFILE.rawValue), files, files), (Int32(RLIMIT_CORE.rawValue), 0, 0)]
        return how
    }

    /// The bytes of all files, and how many of them are holes.
    private func unpack(into tree: String) async throws -> (size: Int64, holes: Int64) {
        try ImageTools.require(store.tools.unpack, package: "hull")
        try makeDirectories(tree, mode: 0o755)
        var files: [SharedDescriptor] = []
        for layer in layers { files.append(SharedDescriptor(try openFile(store.path(ofBlob: layer.digest), O_RDONLY))) }
        let how = confined(
            ["unpack", "\(store.limits.bytes)", "\(store.limits.entries)"] + diffs.map(\.description), in: tree,
            files)
        let tally = Tally()
        let (layers, progress) = (layers, progress)
        let output = try await Tool(how, task: "unpack \(name)", time: store.limits.time).run { line in
            let words = line.split(separator: " ")
            guard words.count >= 2 else { return }
            if words[0] == "note" { progress?(.note(String(line.dropFirst(5)))) }
            guard let index = Int(words[1]), layers.indices.contains(index) else { return }
            let layer = layers[index]
            switch words[0] {
            case "layer": tally.layer = index
            case "read" where words.count == 3:
                progress?(.layer(layer.digest, .unpacking, bytes: Int64(words[2]) ?? 0, total: layer.size))
            case "unpacked" where words.count == 5:
                tally.size = Int64(words[3]) ?? 0
                tally.written = Int64(words[4]) ?? 0
                progress?(.layer(layer.digest, .unpacked, bytes: layer.size, total: layer.size))
            default: break
            }
        }
        withExtendedLifetime(files) {}
        let (index, size, written) = await (tally.layer, tally.size, tally.written)
        guard output.status.isSuccess else { throw failure(output, layer: index) }
        return (size, size - written)
    }

    /// What the program's exit code and sentence mean.
    private func failure(_ output: Output, layer index: Int) -> ImageError {
        let said = output.complaint
        let code: ImageError.Code
        switch output.status {
        case .code(10): code = .damagedLayer
        case .code(11): code = .hostileLayer
        case .code(12): code = .tooBig
        case .code(13): code = .digestMismatch
        case .code(14): return diskFull
        default:
            return ImageError(.failed, "unpack \(name): \(said.isEmpty ? "hull-unpack ended with \(output.status)" : said)")
        }
        let layer =
            layers.indices.contains(index) ? "layer \(index + 1) of \(layers.count) (\(layers[index].digest.short)) of " : ""
        return ImageError(code, "\(layer)\(name): \(said)")
    }

    private var diskFull: ImageError {
        ImageError(
            .diskFull, "no room on the disk of \(store.root) to unpack \(name): free some, e.g. with hull rmi and hull gc")
    }

    private func format(in folder: String, uuid: String, isSparse: Bool) async throws {
        try ImageTools.require(store.tools.makeErofs, package: "erofs-utils")
        progress?(.building)
        let how = confined(["erofs", store.tools.makeErofs, uuid, isSparse ? "sparse" : "plain"], in: folder)
        let done = try await Tool(how, task: "build the root image of \(name)", time: store.limits.time).run()
        guard done.status.isSuccess, exists("\(folder)/root.erofs") else {
            if done.saysDiskFull { throw diskFull }
            throw ImageError(.failed, "build the root image of \(name): \(done.complaint)")
        }
    }

    /// Makes it as long as all others are, by a hole: machines restored from one template see a disk of one size.
    private func lengthen(_ file: Int32, _ path: String) throws {
        var status = stat()
        try checked("look at", path) { fstat(file, &status) }
        let unit = Int(ImageStore.rootSize)
        try checked("set the length of", path) { ftruncate(file, (Int(status.st_size) + unit - 1) / unit * unit) }
    }

    /// From the content's name, so that the image is the same wherever it is built.
    private func uuid(_ fileName: String) -> String {
        let hex = fileName.dropFirst(2).prefix(32)
        let cuts = [8, 12, 16, 20]
        return String(hex.enumerated().flatMap { cuts.contains($0) ? ["-", $1] : [$1] })
    }
}
