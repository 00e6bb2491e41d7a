import Glibc
import LinuxSystem
public import OCISpec

extension ImageStore {
    /// Removes a name, or with an id all of an image; a `force` is needed for one that has several names. The image goes with its
    /// last name. `users` says which containers use an image: one that is in use is kept, with an error.
    public func remove(_ name: String, force: Bool = false, users: (Digest) throws -> [String]) throws -> RemovedImage {
        let names = try nameRecords()
        let going: [NameRecord]
        let id: Digest
        if let named = match(name, names) {
            going = [named]
            id = named.image
        } else {
            id = try withPrefix(name).id
            going = names.filter { $0.image == id }
            if going.count > 1 && !force {
                throw ImageError(
                    .inUse,
                    "the image \(id.short) has several names (\(going.map(\.familiar).joined(separator: ", "))): remove those, or use --force"
                )
            }
        }
        let isLast = names.filter { $0.image == id }.count == going.count
        if isLast, case let containers = try users(id), !containers.isEmpty {
            throw ImageError(
                .inUse,
                "the image \(going.first?.familiar ?? id.short) is used by \(containers.joined(separator: ", ")): remove them first"
            )
        }
        for record in going { try removeFile(path(ofName: record.text)) }
        if isLast {
            try removeFile(path(ofImage: id))
            try collectGarbage()
        }
        return RemovedImage(untagged: going.map(\.familiar), deleted: isLast ? [id] : [])
    }

    /// Removes what killed pulls and builds left; microseconds when there is nothing, so that every verb can do it.
    public func collectLeftovers() throws {
        try Staging.collect(in: "\(root)/ingest")
        // A record that was being written has another name until it is whole; whoever writes one holds the store's lock, shared.
        func halfWritten() throws -> [String] {
            try ["names", "images"].flatMap { folder in
                try listDirectory("\(root)/\(folder)").filter { !$0.hasSuffix(".json") }.map { "\(root)/\(folder)/\($0)" }
            }
        }
        guard try !halfWritten().isEmpty, let lock = try FileLock.attempt("\(root)/lock") else { return }
        defer { withExtendedLifetime(lock) {} }
        for path in try halfWritten() { try removeFile(path) }
    }

    /// Removes leftovers and all content that no image names. Returns the bytes freed: 0 too when others are at work, who
    /// may be about to name it.
    @discardableResult
    public func collectGarbage() throws -> Int64 {
        try collectLeftovers()
        guard let lock = try lockAlone() else { return 0 }
        defer { withExtendedLifetime(lock) {} }
        let records = try imageRecords()
        let blobs = Set(records.flatMap { [$0.id] + $0.layers.map(\.digest) })
        let roots = Set(records.map(\.root))
        var freed: Int64 = 0
        for algorithm in Digest.Algorithm.allCases {
            let folder = "\(root)/blobs/\(algorithm.rawValue)"
            for file in try listDirectory(folder) where Digest(algorithm, hex: file).map({ !blobs.contains($0) }) ?? true {
                freed += try removeFile("\(folder)/\(file)")
            }
        }
        for file in try listDirectory("\(root)/roots") where !roots.contains(file) {
            freed += try removeFile("\(root)/roots/\(file)")
        }
        return freed
    }

    /// The store's lock, alone. A child of ours that was just made has copies of our descriptors until it executes: so a short while
    /// is waited.
    private func lockAlone() throws -> FileLock? {
        for _ in 0..<50 {
            if let lock = try FileLock.attempt("\(root)/lock") { return lock }
            usleep(1000)
        }
        return nil
    }

    /// Missing is no error: somebody else removed it.
    @discardableResult
    private func removeFile(_ path: String) throws -> Int64 {
        let size = allocatedBytes(path)
        if unlink(path) != 0 && errno != ENOENT { throw SystemError("remove", path) }
        return size
    }
}
