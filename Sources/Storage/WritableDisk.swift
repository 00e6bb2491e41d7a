public import LinuxSystem

/// A container's writable disk: a sparse file with an ext4 in it.
public enum WritableDisk {
  /// Makes the disk at `path`, which must not exist, of `sizeBytes` as the guest sees it. `templates` is a folder for
  /// formatted disks that are copied: the first of a size takes mkfs.ext4's time, the others a few milliseconds.
  public static func make(_ path: String, sizeBytes: UInt64, templates: String) async throws {
    fatalError("API first; the body follows in the next commits")
  }

  /// Makes the disk and its filesystem larger. The disk must not be in use.
  public static func grow(_ path: String, sizeBytes: UInt64) async throws { fatalError() }
}
