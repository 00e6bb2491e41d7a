public import LinuxSystem
public import OCISpec

/// Images on this host: a content-addressed store, and how they get in and out. A plain value: what it knows is on the
/// disk, and any number of processes may use one store at once.
public struct ImageStore: Sendable {
  /// The store's folder.
  public let root: String
  public var limits = UnpackLimits()

  /// Opens the store at `root`, which is made when it is missing.
  public init(root: String) throws {
    fatalError("API first; the body follows in the next commits")
  }

  /// The image of `source`: from the store when it is there and `pull` allows, else fetched, verified and built.
  /// With `.missing` and the image there, nothing is started and only small files are read.
  public func resolve(
    _ source: ImageSource, pull: PullPolicy = .missing, platform: Platform = .host,
    progress: PullProgress? = nil
  ) async throws -> Image { fatalError() }

  /// A local image by reference, id or prefix of an id. Throws `.notHere` or `.ambiguous`.
  public func find(_ name: String) throws -> Image { fatalError() }

  /// All images, the newest first.
  public func list() throws -> [Image] { fatalError() }

  /// Removes a name, or with an id all of an image. The image goes with its last name. `users` says which containers
  /// use an image: one that is in use is kept, with an error, unless only one of several names goes.
  public func remove(_ name: String, force: Bool = false, users: (Digest) throws -> [String]) throws
    -> RemovedImage
  { fatalError() }

  /// Keeps `collectGarbage` of any process from removing content, as long as the value lives: hold it from `resolve`
  /// until the container's record is written.
  public func hold() throws -> FileLock { fatalError() }

  /// Removes what killed pulls and builds left; microseconds when there is nothing, so that every verb can do it.
  public func collectLeftovers() throws { fatalError() }

  /// Removes leftovers and all content that no image names. Returns the bytes freed.
  @discardableResult public func collectGarbage() throws -> Int64 { fatalError() }
}

/// What an image's layers may unpack to.
public struct UnpackLimits: Sendable, Equatable {
  /// Bytes of all files together, holes counted.
  public var bytes: UInt64 = 64 << 30
  /// Files, folders and links.
  public var entries: UInt64 = 4_000_000
  /// For each of fetching, unpacking and building.
  public var time: Duration = .seconds(3600)
  public init() {}
}
