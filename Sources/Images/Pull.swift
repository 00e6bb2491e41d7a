import Glibc
import LinuxSystem
import OCISpec

/// One pull: manifest, platform, layers, config, root, records, in this order. Nothing is named before all of it is verified.
struct Pull {
    var store: ImageStore
    var source: ImageSource
    var platform: Platform
    var progress: PullProgress?

    private var name: String { source.familiar }
    private typealias Document = (bytes: [UInt8], digest: Digest)

    func run() async throws -> Image {
        try ImageTools.require(store.tools.skopeo, package: "skopeo")
        let stamp = try stampOfFile()
        let staging = try Staging.make(in: "\(store.root)/ingest")
        do {
            let image = try await run(staging, stamp)
            try staging.discard()
            return image
        } catch {
            try staging.discard()
            throw error
        }
    }

    /// The file's stamp before it is read: one that changes meanwhile is read again next time.
    private func stampOfFile() throws -> Stamp? {
        let stamp = Stamp(of: source)
        switch source {
        case .ociLayout(let path, _) where stamp == nil:
            throw ImageError(.unknownImage, "\(path) is no OCI layout: it has no index.json")
        case .ociArchive(let path, _) where stamp == nil, .dockerArchive(let path, _) where stamp == nil:
            throw ImageError(.unknownImage, "there is no file \(path)")
        default: return stamp
        }
    }

    private func run(_ staging: Staging, _ stamp: Stamp?) async throws -> Image {
        for folder in ["layout/blobs/sha256", "layout/blobs/sha512", "tmp"] { try makeDirectories("\(staging.path)/\(folder)") }
        let top = try await document(staging)
        if case .registry(let reference) = source, let wanted = reference.digest, wanted != top.digest,
            wanted.algorithm == .sha256
        {
            throw ImageError(.digestMismatch, "the registry answers \(name) with a manifest whose digest is \(top.digest)")
        }
        var chosen: Descriptor?
        var manifest: (ImageManifest, Digest)?
        switch try parsed(top.bytes) {
        case .manifest(let found): manifest = (found, top.digest)
        case .index(let index):
            guard let descriptor = index.choose(platform) else {
                let offer = Set(index.platforms.map(\.description)).sorted().joined(separator: ", ")
                throw ImageError(
                    .noPlatform, "\(name) has no image for \(platform)" + (offer.isEmpty ? "" : ": it is for \(offer)"))
            }
            chosen = descriptor
            if case .registry = source { manifest = try await self.manifest(descriptor, staging) }
        }

        if let (found, digest) = manifest, let image = try alreadyHere(found, digest, top.digest, stamp) { return image }
        try await copy(chosen, manifest?.0, staging)
        if manifest == nil, let chosen { manifest = try fromLayout(chosen, staging) }
        guard let (found, digest) = manifest else { throw ImageError(.invalidImage, "\(name) has no manifest") }

        let config = try await config(found, chosen, staging)
        try await admit(found, staging)
        let fileName = RootBuilder.fileName(config)
        let builder = RootBuilder(
            store: store, name: name, layers: found.layers, diffs: config.rootfs.diffIDs, progress: progress)
        let size = try await builder.build(fileName)
        let record = ImageRecord(
            id: found.config.digest, manifest: digest, config: config, layers: found.layers, root: fileName,
            size: try size ?? sizeOfRoot(fileName))
        try store.write(record, store.path(ofImage: record.id))
        return try named(record, top.digest, stamp, fresh: true)
    }

    // MARK: Documents

    private func skopeo(_ arguments: [String], _ staging: Staging) async throws -> Output {
        var how = Spawn(
            store.tools.skopeo, arguments,
            environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TMPDIR=\(staging.path)/tmp"]
                + store.tools.environment)
        how.networkNamespace = store.tools.network
        let output = try await Tool(how, task: "fetch \(name)", time: store.limits.time).run()
        guard output.status.isSuccess else { throw Skopeo.explain(output.complaint, source) }
        return output
    }

    private func parsed(_ bytes: [UInt8]) throws -> ManifestDocument {
        do { return try parseManifest(bytes) } catch { throw ImageError(.invalidImage, "\(name): \(error)") }
    }

    /// What the source has under its name, and its digest.
    private func document(_ staging: Staging) async throws -> Document {
        let output = try await skopeo(Skopeo.inspect(source, platform: platform, work: "\(staging.path)/tmp"), staging)
        return (output.standardOutput, SHA256.digest(output.standardOutput))
    }

    private func manifest(_ descriptor: Descriptor, _ staging: Staging) async throws -> (ImageManifest, Digest) {
        let output = try await skopeo(
            Skopeo.inspect(source, digest: descriptor.digest, platform: platform, work: "\(staging.path)/tmp"), staging)
        return try manifest(descriptor, output.standardOutput)
    }

    private func fromLayout(_ descriptor: Descriptor, _ staging: Staging) throws -> (ImageManifest, Digest) {
        let path = "\(staging.path)/layout/blobs/\(descriptor.digest.algorithm.rawValue)/\(descriptor.digest.hex)"
        guard exists(path) else {
            throw ImageError(.invalidImage, "\(name) names the manifest \(descriptor.digest) and does not have it")
        }
        return try manifest(descriptor, try readFile(path, limit: documentRoom))
    }

    private func manifest(_ descriptor: Descriptor, _ bytes: [UInt8]) throws -> (ImageManifest, Digest) {
        try check(bytes, descriptor.digest, "manifest")
        guard case .manifest(let manifest) = try parsed(bytes) else {
            throw ImageError(.invalidImage, "\(name) is an index within an index")
        }
        return (manifest, descriptor.digest)
    }

    private func check(_ bytes: [UInt8], _ digest: Digest, _ kind: String) throws(ImageError) {
        guard digest.algorithm == .sha256 else {
            throw ImageError(
                .invalidImage, "the \(kind) of \(name) is named by \(digest.algorithm.rawValue): only sha256 is known for it")
        }
        let found = SHA256.digest(bytes)
        if found != digest {
            throw ImageError(.digestMismatch, "the \(kind) of \(name) has the digest \(found), and its name says \(digest)")
        }
    }

    /// The config's exact bytes, verified. skopeo rewrites Docker's when it makes an OCI layout, so it is asked again then.
    private func config(_ manifest: ImageManifest, _ chosen: Descriptor?, _ staging: Staging) async throws -> ImageConfig {
        let digest = manifest.config.digest
        let path = "\(staging.path)/layout/blobs/\(digest.algorithm.rawValue)/\(digest.hex)"
        let bytes: [UInt8]
        if exists(path) {
            bytes = try readFile(path, limit: documentRoom)
        } else {
            var which: Digest?
            if case .registry = source { which = chosen?.digest }
            bytes = try await skopeo(
                Skopeo.inspect(source, digest: which, config: true, platform: platform, work: "\(staging.path)/tmp"), staging
            ).standardOutput
        }
        try check(bytes, digest, "config")
        let config: ImageConfig
        do { config = try parseImageConfig(bytes) } catch { throw ImageError(.invalidImage, "\(name): \(error)") }
        try store.check(config, platform, name)
        guard config.rootfs.diffIDs.count == manifest.layers.count else {
            throw ImageError(
                .invalidImage,
                "\(name) has \(manifest.layers.count) layers, and its config names \(config.rootfs.diffIDs.count)")
        }
        if let other = manifest.layers.first(where: { !MediaType.isLayer($0.mediaType) }) {
            throw ImageError(.invalidImage, "\(name) has a layer of the type \(other.mediaType), which is no tar that Hull reads")
        }
        let kept = store.path(ofBlob: digest)
        if !exists(kept) { try replaceFile(kept, bytes, mode: 0o644, durable: true) }
        return config
    }

    // MARK: Layers

    /// Fetches what is missing into the staging's layout. Layers that the store has are linked there first, and skopeo skips them.
    private func copy(_ chosen: Descriptor?, _ manifest: ImageManifest?, _ staging: Staging) async throws {
        let layout = "\(staging.path)/layout"
        for record in try store.imageRecords() {
            for layer in record.layers {
                let path = store.path(ofBlob: layer.digest)
                guard link(path, "\(layout)/blobs/\(layer.digest.algorithm.rawValue)/\(layer.digest.hex)") != 0 else { continue }
                if errno != EEXIST && errno != ENOENT { throw SystemError("link", path) }
            }
        }
        let layers = (manifest?.layers ?? []).map {
            PullEvent.Layer(digest: $0.digest, size: $0.size, isHere: exists(store.path(ofBlob: $0.digest)))
        }
        progress?(.pulling(name: name, layers: layers))
        var digest: Digest?
        if case .registry = source { digest = chosen?.digest }
        let arguments = Skopeo.copy(source, digest: digest, to: layout, platform: platform, work: "\(staging.path)/tmp")
        async let _: Void = watch(layout, layers.filter { !$0.isHere })
        _ = try await skopeo(arguments, staging)
    }

    /// Tells how much has come, until it is cancelled. skopeo tells a pipe nothing; its files grow.
    private func watch(_ layout: String, _ missing: [PullEvent.Layer]) async {
        guard let progress, !missing.isEmpty else { return }
        let total = missing.reduce(0) { $0 + $1.size }
        var waiting = missing
        while true {
            // Cancelled: the copy is done.
            do { try await sleep(for: .milliseconds(200)) } catch { return }
            waiting.removeAll { layer in
                guard exists("\(layout)/blobs/\(layer.digest.algorithm.rawValue)/\(layer.digest.hex)") else { return false }
                progress(.layer(layer.digest, .fetched, bytes: layer.size, total: layer.size))
                return true
            }
            var bytes = total - waiting.reduce(0) { $0 + $1.size }
            for file in (try? listDirectory(layout)) ?? [] where file.hasPrefix("oci-put-blob") {  // only a display
                bytes += Stamp("\(layout)/\(file)")?.size ?? 0
            }
            progress(.fetched(bytes: min(bytes, total), total: total))
        }
    }

    /// Verifies the fetched layers, size and digest, and takes them into the store.
    private func admit(_ manifest: ImageManifest, _ staging: Staging) async throws {
        var seen: Set<Digest> = []
        let missing = manifest.layers.filter { seen.insert($0.digest).inserted && !exists(store.path(ofBlob: $0.digest)) }
        var rest = missing[...]
        while !rest.isEmpty {
            let part = Array(rest.prefix(200))
            rest = rest.dropFirst(200)
            let digests = try await digests(part, staging)
            for (layer, (size, digest)) in zip(part, digests) {
                if digest != layer.digest || size != layer.size {
                    throw ImageError(
                        .digestMismatch,
                        "a layer of \(name) has \(size) bytes with the digest \(digest), and the manifest says \(layer.size) with \(layer.digest)"
                    )
                }
                let kept = store.path(ofBlob: layer.digest)
                if link(path(layer, staging), kept) != 0 && errno != EEXIST { throw SystemError("keep", kept) }
                progress?(.layer(layer.digest, .verified, bytes: layer.size, total: layer.size))
            }
        }
    }

    private func path(_ layer: Descriptor, _ staging: Staging) -> String {
        "\(staging.path)/layout/blobs/\(layer.digest.algorithm.rawValue)/\(layer.digest.hex)"
    }

    private func digests(_ layers: [Descriptor], _ staging: Staging) async throws -> [(Int64, Digest)] {
        var files: [SharedDescriptor] = []
        for layer in layers {
            guard exists(path(layer, staging)) else {
                throw ImageError(.invalidImage, "the layer \(layer.digest) of \(name) did not come")
            }
            files.append(SharedDescriptor(try openFile(path(layer, staging), O_RDONLY)))
        }
        try ImageTools.require(store.tools.unpack, package: "hull")
        var how = Spawn(store.tools.unpack, ["digest"] + layers.map(\.digest.algorithm.rawValue), environment: [])
        how.descriptors = files.enumerated().map { (from: $1, to: Int32(3 + $0)) }
        how.capabilities = 0
        let output = try await Tool(how, task: "verify \(name)", time: store.limits.time).run()
        guard output.status.isSuccess else { throw ImageError(.failed, "verify \(name): \(output.complaint)") }
        let lines = String(decoding: output.standardOutput, as: UTF8.self).split(separator: "\n")
        let found = lines.compactMap { line -> (Int64, Digest)? in
            let words = line.split(separator: " ")
            guard words.count == 4, let size = Int64(words[2]), let digest = Digest(words[3]) else { return nil }
            return (size, digest)
        }
        guard found.count == layers.count else { throw ImageError(.failed, "verify \(name): hull-unpack answered otherwise") }
        return found
    }

    // MARK: Records

    /// The image under this manifest when all of it is in the store: only the name has to be written.
    private func alreadyHere(_ manifest: ImageManifest, _ digest: Digest, _ top: Digest, _ stamp: Stamp?) throws -> Image? {
        guard let record = try store.read(ImageRecord.self, store.path(ofImage: manifest.config.digest)),
            record.manifest == digest, exists(store.path(ofRoot: record.root))
        else { return nil }
        try store.check(record.config, platform, name)
        return try named(record, top, stamp, fresh: false)
    }

    private func named(_ record: ImageRecord, _ top: Digest, _ stamp: Stamp?, fresh: Bool) throws -> Image {
        var digest: Digest?
        if case .registry = source { digest = top }
        let name = NameRecord(
            text: source.description, familiar: source.familiar, image: record.id, digest: digest, stamp: stamp)
        try store.write(name, store.path(ofName: name.text))
        progress?(.done(id: record.id, manifest: top, fresh: fresh))
        return store.image(record, [name])
    }

    /// The size of a root that somebody else built: from any record that has it, else the file's.
    private func sizeOfRoot(_ fileName: String) throws -> Int64 {
        if let known = try store.imageRecords().first(where: { $0.root == fileName }) { return known.size }
        return allocatedBytes(store.path(ofRoot: fileName))
    }
}
