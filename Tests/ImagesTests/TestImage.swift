import FoundationEssentials
import Glibc
import Images
import LinuxSystem
import OCISpec
import Testing

/// A folder of a test's own, removed with it.
final class Scratch: Sendable {
    let path: String
    init(_ name: String = #function) throws {
        Loop.runInBackground()
        path = "/var/tmp/hull-images-test-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try makeDirectories(path)
    }
    deinit { try? removeTree(path) }  // a test's left-over is no failure of what it tests

    func store(_ name: String = "store") throws -> ImageStore {
        try ImageStore(root: "\(path)/\(name)", tools: ImageTools(environment: environment()))
    }
}

/// The environment of the test run.
func environment() -> [String] {
    var all: [String] = []
    var next = environ
    while let line = next.pointee {
        all.append(String(cString: line))
        next += 1
    }
    return all
}

/// Runs a program to its end and gives its output; throws what it said when it failed.
@discardableResult
func command(_ file: String, _ arguments: String..., input: [UInt8] = [], network: SharedDescriptor? = nil) async throws
    -> [UInt8]
{
    var how = Spawn(file, arguments)
    how.networkNamespace = network
    let output = try await how.run(input: input, limit: 64 << 20)
    if !output.status.isSuccess { throw SystemError("\(file) \(arguments): \(output.complaint)", code: EIO) }
    return output.standardOutput
}

/// Why tests that unpack cannot run here; nil when they can.
let missing: String? = {
    if geteuid() != 0 { return "needs root: owners and namespaces" }
    for program in ["/usr/bin/skopeo", "/usr/bin/mkfs.erofs", "/usr/bin/gzip", "/usr/bin/zstd", "/usr/bin/tar"]
    where !exists(program) { return "needs \(program)" }
    return nil
}()

/// An image under construction: an OCI layout made of plain files.
struct TestImage {
    var layers: [Layer] = []
    var architecture = Platform.host.architecture
    var docker = false
    var execution = ImageConfig.Execution()
    var created = "2024-01-02T03:04:05Z"

    struct Layer {
        var mediaType: String
        var bytes: [UInt8]
        var diffID: Digest
        /// What the manifest says, when that is a lie.
        var claimed: Digest?
        var digest: Digest { claimed ?? SHA256.digest(bytes) }
    }

    mutating func add(_ tar: TarFile) { add(plain: tar.finished) }
    mutating func add(plain bytes: [UInt8]) {
        layers.append(Layer(mediaType: "application/vnd.oci.image.layer.v1.tar", bytes: bytes, diffID: SHA256.digest(bytes)))
    }
    mutating func add(gzip tar: [UInt8]) async throws {
        let bytes = try await command("/usr/bin/gzip", "-nc", input: tar)
        layers.append(
            Layer(mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", bytes: bytes, diffID: SHA256.digest(tar)))
    }
    mutating func add(zstd tar: [UInt8]) async throws {
        let bytes = try await command("/usr/bin/zstd", "-qc", input: tar)
        layers.append(
            Layer(mediaType: "application/vnd.oci.image.layer.v1.tar+zstd", bytes: bytes, diffID: SHA256.digest(tar)))
    }

    var config: [UInt8] {
        var config = ImageConfig(architecture: architecture, config: execution, diffIDs: layers.map(\.diffID))
        config.created = created
        return json(config)
    }
    var manifest: [UInt8] {
        let type = docker ? MediaType.dockerConfig : MediaType.config
        let config = config
        return json(
            ImageManifest(
                config: Descriptor(mediaType: type, digest: SHA256.digest(config), size: Int64(config.count)),
                layers: layers.map {
                    Descriptor(
                        mediaType: docker ? "application/vnd.docker.image.rootfs.diff.tar.gzip" : $0.mediaType, digest: $0.digest,
                        size: Int64($0.bytes.count))
                }, mediaType: docker ? MediaType.dockerManifest : MediaType.manifest))
    }
    var descriptor: Descriptor {
        Descriptor(
            mediaType: docker ? MediaType.dockerManifest : MediaType.manifest, digest: SHA256.digest(manifest),
            size: Int64(manifest.count), platform: Platform(architecture: architecture))
    }

    private func putBlobs(_ path: String) throws {
        try makeDirectories("\(path)/blobs/sha256")
        for layer in layers { try put("\(path)/blobs/sha256/\(layer.digest.hex)", layer.bytes) }
        try put("\(path)/blobs/sha256/\(SHA256.digest(config).hex)", config)
        try put("\(path)/blobs/sha256/\(SHA256.digest(manifest).hex)", manifest)
    }

    /// Writes it as an OCI layout with the tag `latest`.
    func write(to path: String) throws {
        try putBlobs(path)
        var named = descriptor
        named.annotations = ["org.opencontainers.image.ref.name": "latest"]
        try put("\(path)/oci-layout", Array(#"{"imageLayoutVersion":"1.0.0"}"#.utf8))
        try put("\(path)/index.json", json(ImageIndex(manifests: [named])))
    }

    /// Writes several as one image for several platforms.
    static func write(_ images: [TestImage], to path: String) throws {
        for image in images { try image.putBlobs(path) }
        let index = json(ImageIndex(manifests: images.map(\.descriptor)))
        try put("\(path)/blobs/sha256/\(SHA256.digest(index).hex)", index)
        var named = Descriptor(mediaType: MediaType.index, digest: SHA256.digest(index), size: Int64(index.count))
        named.annotations = ["org.opencontainers.image.ref.name": "latest"]
        try put("\(path)/oci-layout", Array(#"{"imageLayoutVersion":"1.0.0"}"#.utf8))
        try put("\(path)/index.json", json(ImageIndex(manifests: [named])))
    }
}

func json(_ value: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return Array(try! encoder.encode(value))
}

func put(_ path: String, _ bytes: [UInt8]) throws {
    try writeFile(path, bytes, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
}

/// Unpacks an EROFS image again, to look at it.
func extract(_ image: Image, to path: String) async throws {
    try await command("/usr/bin/fsck.erofs", "--extract=\(path)", "--preserve", image.rootPath)
}

/// What a root's file holds before the hole that makes it as long as all others.
func rootData(_ image: Image) throws -> [UInt8] {
    var all: [UInt8] = []
    let file = SharedDescriptor(try openFile(image.rootPath, O_RDONLY))
    let end = lseek(file.raw, 0, 4 /* SEEK_HOLE */)
    #expect(end > 0 && lseek(file.raw, end, 3 /* SEEK_DATA */) < 0)
    _ = lseek(file.raw, 0, SEEK_SET)
    while all.count < end {
        let bytes = [UInt8](unsafeUninitializedCapacity: min(1 << 20, Int(end) - all.count)) { buffer, count in
            count = max(0, read(file.raw, buffer.baseAddress, buffer.count))
        }
        if bytes.isEmpty { break }
        all += bytes
    }
    return all
}
