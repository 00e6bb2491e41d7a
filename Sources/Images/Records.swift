import FoundationEssentials
import Glibc
import LinuxSystem
import OCISpec

/// What the store knows of an image: `images/HEX.json`, named by the config's digest.
struct ImageRecord: Codable {
    var version = 1
    var id: Digest
    var manifest: Digest
    var config: ImageConfig
    var layers: [Descriptor]
    /// The root's file name in `roots/`.
    var root: String
    /// Bytes of the root's files.
    var size: Int64
}

/// What a name leads to: `names/HEX.json`, named by the SHA-256 of the name, because a name can be longer than a file's may be.
struct NameRecord: Codable {
    var version = 1
    var text: String
    var familiar: String
    var image: Digest
    /// What the registry has under the name.
    var digest: Digest?
    /// For sources that are files: what the file was like.
    var stamp: Stamp?
}

/// Tells a file that was replaced or written to.
struct Stamp: Codable, Equatable {
    var device: UInt64
    var inode: UInt64
    var size: Int64
    var seconds: Int64
    var nanoseconds: Int64

    init?(_ path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int64(status.st_size)
        seconds = Int64(status.st_mtim.tv_sec)
        nanoseconds = Int64(status.st_mtim.tv_nsec)
    }

    /// Of a source: of its file, or of its layout's index; nil for what has none.
    init?(of source: ImageSource) {
        switch source {
        case .ociLayout(let directory, _): self.init("\(directory)/index.json")
        case .ociArchive(let file, _), .dockerArchive(let file, _): self.init(file)
        case .registry, .rootfs: return nil
        }
    }
}

extension ImageStore {
    func path(ofName text: String) -> String { "\(root)/names/\(SHA256.digest(text.utf8).hex).json" }
    func path(ofImage id: Digest) -> String { "\(root)/images/\(id.hex).json" }
    func path(ofBlob digest: Digest) -> String { "\(root)/blobs/\(digest.algorithm.rawValue)/\(digest.hex)" }
    func path(ofRoot name: String) -> String { "\(root)/roots/\(name)" }

    /// Reads a record; nil when there is none. A damaged one is an error, not a missing one.
    func read<T: Decodable>(_ type: T.Type, _ path: String) throws -> T? {
        let bytes: [UInt8]
        do {
            bytes = try readFile(path)
        } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw ImageError(.badStore, "\(path) cannot be read: remove it and pull the image again", cause: error)
        }
    }

    func write(_ record: some Encodable, _ path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        try replaceFile(path, Array(try encoder.encode(record)), mode: 0o644, durable: true)
    }

    func nameRecords() throws -> [NameRecord] {
        try listDirectory("\(root)/names").filter { $0.hasSuffix(".json") }
            .compactMap { try read(NameRecord.self, "\(root)/names/\($0)") }.sorted { $0.text < $1.text }
    }

    func imageRecords() throws -> [ImageRecord] {
        try listDirectory("\(root)/images").filter { $0.hasSuffix(".json") }
            .compactMap { try read(ImageRecord.self, "\(root)/images/\($0)") }
    }

    func image(_ record: ImageRecord, _ names: [NameRecord]) -> Image {
        Image(
            id: record.id, manifest: record.manifest, config: record.config, layers: record.layers,
            names: names.map { Image.Name(text: $0.text, familiar: $0.familiar, digest: $0.digest) },
            rootPath: path(ofRoot: record.root), size: record.size, fetchedSize: record.layers.reduce(0) { $0 + $1.size })
    }
}

/// What a file takes on the disk; holes take nothing, and no file nothing.
func allocatedBytes(_ path: String) -> Int64 {
    var status = stat()
    return stat(path, &status) == 0 ? Int64(status.st_blocks) * 512 : 0
}
