import Glibc
public import LinuxSystem
public import OCISpec

/// Images on this host: a content-addressed store, and how they get in and out. A plain value: what it knows is on the
/// disk, and any number of processes may use one store at once.
///
/// `blobs/` holds what was fetched, `roots/` an EROFS image for every chain of layers, `images/` a small record for every
/// image, `names/` one for every name. Work under way is in `ingest/`, locked. Records are replaced whole, the last thing a
/// pull does; content is never changed, only added and collected.
public struct ImageStore: Sendable {
    /// The store's folder.
    public let root: String
    /// What is started for it.
    public var tools: ImageTools
    public var limits = UnpackLimits()

    private static let version = "1\n"

    /// The length of a root image in bytes, or what its length is a multiple of: all that is behind the data is a hole.
    public static let rootSize: UInt64 = 64 << 30

    /// Opens the store at `root`, which is made when it is missing. Throws `.badStore` for one that a later Hull wrote.
    public init(root: String, tools: ImageTools) throws {
        self.root = root
        self.tools = tools
        let path = "\(root)/version"
        if let found = try? readText(path) {  // missing: it is new, or half made
            guard found == Self.version else {
                throw ImageError(.badStore, "\(root) was written by another Hull (version \(found.prefix(20))): use that one")
            }
            return
        }
        for folder in ["blobs/sha256", "blobs/sha512", "roots", "images", "names", "ingest"] {
            try makeDirectories("\(root)/\(folder)")
        }
        try replaceFile(path, Array(Self.version.utf8))
    }

    /// A local image by reference, id or prefix of an id, with all its names. Throws `.notHere` or `.ambiguous`.
    public func find(_ name: String) throws -> Image {
        let names = try nameRecords()
        let record: ImageRecord
        if let named = match(name, names) {
            guard let found = try read(ImageRecord.self, path(ofImage: named.image)) else {
                throw ImageError(.badStore, "the record of the image \(named.familiar) is missing: pull it again")
            }
            record = found
        } else {
            record = try withPrefix(name)
        }
        return image(record, names.filter { $0.image == record.id })
    }

    /// All images, the newest first.
    public func list() throws -> [Image] {
        let names = try nameRecords()
        return try imageRecords().map { record in image(record, names.filter { $0.image == record.id }) }
            .sorted { ($0.created ?? "", $0.id.hex) > ($1.created ?? "", $1.id.hex) }
    }

    /// An image's config, byte for byte.
    public func rawConfig(_ image: Image) throws -> [UInt8] { try readFile(path(ofBlob: image.id)) }

    /// Keeps `collectGarbage` of any process from removing content, as long as the value lives: hold it from `resolve`
    /// until the container's record is written.
    public func hold() throws -> FileLock { try FileLock.acquire("\(root)/lock", shared: true) }

    /// The name record that `name` means, as a person writes it.
    func match(_ name: String, _ names: [NameRecord]) -> NameRecord? {
        // What is no reference may still be an id.
        let canonical = (try? Reference(name))?.description
        return names.first { $0.text == name || $0.text == canonical || $0.familiar == name }
    }

    func withPrefix(_ name: String) throws -> ImageRecord {
        let prefix = name.hasPrefix("sha256:") ? String(name.dropFirst(7)) : name
        let isHex = !prefix.isEmpty && prefix.utf8.count <= 128 && prefix.allSatisfy { $0.isHexDigit && !$0.isUppercase }
        let found = isHex ? try listDirectory("\(root)/images").filter { $0.hasPrefix(prefix) && $0.hasSuffix(".json") } : []
        if found.count > 1 {
            throw ImageError(.ambiguous, "\"\(name)\" is the beginning of several images' ids: give more of it")
        }
        guard let file = found.first, let record = try read(ImageRecord.self, "\(root)/images/\(file)") else {
            throw ImageError(.notHere, "there is no image \"\(name)\" here: see hull images, or fetch it with hull pull")
        }
        return record
    }
}

/// What an image's layers may unpack to.
public struct UnpackLimits: Sendable, Equatable {
    /// Bytes of all files together, holes counted.
    public var bytes: UInt64 = 64 << 30
    /// Files, folders and links.
    public var entries: UInt64 = 4_000_000
    /// For each of waiting, fetching, unpacking and building.
    public var time: Duration = .seconds(3600)
    public init() {}
}
