import CLinux
import Glibc

/// A file descriptor that has exactly one owner and is closed with it. Close-on-exec from birth.
public struct OwnedDescriptor: ~Copyable, Sendable {
    /// The number. Valid as long as this value lives: pass it to a system call, never keep it.
    public let raw: Int32

    /// Takes ownership of `raw`, which nobody else may close.
    public init(owning raw: Int32) { self.raw = raw }

    deinit { _ = Glibc.close(raw) }

    /// Gives the number up without closing it; the caller owns it now.
    public consuming func release() -> Int32 {
        let raw = raw
        discard self
        return raw
    }

    /// A second descriptor of the same open file.
    public borrowing func duplicate() throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(
            owning: try checked("duplicate a descriptor") { fcntl(raw, F_DUPFD_CLOEXEC, 0) })
    }
}

/// A descriptor with several owners, e.g. the reader and the writer of one stream; closed with the last.
public final class SharedDescriptor: Sendable {
    private let owned: OwnedDescriptor

    /// The number; the same rules as `OwnedDescriptor.raw`.
    public var raw: Int32 { owned.raw }

    /// Shares what was owned.
    public init(_ owned: consuming OwnedDescriptor) { self.owned = owned }

    /// Shares `raw`, taking ownership of it.
    public convenience init(owning raw: Int32) { self.init(OwnedDescriptor(owning: raw)) }

    /// A second descriptor of the same open file.
    public func duplicate() throws(SystemError) -> OwnedDescriptor { try owned.duplicate() }

    /// Closes the file for all who share it, because another process has it now; what they have is /dev/null from here on.
    public func letGo() throws(SystemError) {
        let nothing = try openFile("/dev/null", O_RDWR)
        try checked("let go of a descriptor") { dup2(nothing.raw, raw) }
        try checked("let go of a descriptor") { fcntl(raw, F_SETFD, FD_CLOEXEC) }
    }
}

/// Something with a descriptor, that a `Spawn` keeps until its child is made: an optimiser ends an object's life after its last
/// use, and a bare number is no use.
public protocol DescriptorSource: Sendable {
    var raw: Int32 { get }
}

extension SharedDescriptor: DescriptorSource {}

/// A number whose owner is kept open by the caller, e.g. one of the three standard streams.
extension Int32: DescriptorSource {
    public var raw: Int32 { self }
}

/// Opens `path`. Close-on-exec is always set.
public func openFile(_ path: String, _ flags: Int32, mode: UInt32 = 0o600) throws(SystemError)
    -> OwnedDescriptor
{
    OwnedDescriptor(owning: try checked("open", path) { Glibc.open(path, flags | O_CLOEXEC, mode) })
}

/// An empty file in memory, which goes with the last that has it open; `name` is what /proc shows (memfd_create(2)). One that can be sealed takes
/// F_ADD_SEALS of fcntl(2).
public func makeMemoryFile(_ name: String, canBeSealed: Bool = false) throws(SystemError) -> SharedDescriptor {
    // MFD_CLOEXEC, MFD_ALLOW_SEALING.
    SharedDescriptor(owning: try checked("make a memory file", name) { hull_memfd_create(name, canBeSealed ? 3 : 1) })
}

/// Opens `path` below `directory` (or AT_FDCWD) with `openat2`; `resolve` takes RESOLVE_* flags.
public func openBelow(
    _ directory: Int32, _ path: String, _ flags: Int32, mode: UInt32 = 0, resolve: UInt64
) throws(SystemError) -> OwnedDescriptor {
    OwnedDescriptor(
        owning: try checked("open", path) {
            hull_openat2(
                directory, path, UInt64(UInt32(bitPattern: flags | O_CLOEXEC)), UInt64(mode), resolve)
        })
}

/// A pipe, both ends close-on-exec.
public func makePipe(nonBlocking: Bool = false) throws(SystemError) -> (
    read: SharedDescriptor, write: SharedDescriptor
) {
    var ends: [Int32] = [-1, -1]
    try checked("make a pipe") { pipe2(&ends, O_CLOEXEC | (nonBlocking ? O_NONBLOCK : 0)) }
    return (SharedDescriptor(owning: ends[0]), SharedDescriptor(owning: ends[1]))
}

/// Sets or clears O_NONBLOCK on the open file behind `raw`: everybody who shares that open file sees it.
public func setNonBlocking(_ raw: Int32, _ on: Bool = true) throws(SystemError) {
    let flags = try checked("read the flags of a descriptor") { fcntl(raw, F_GETFL) }
    let wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK
    if wanted != flags {
        try checked("set the flags of a descriptor") { fcntl(raw, F_SETFL, wanted) }
    }
}

/// Sets or clears FD_CLOEXEC.
public func setCloseOnExec(_ raw: Int32, _ on: Bool) throws(SystemError) {
    try checked("set close-on-exec") { fcntl(raw, F_SETFD, on ? FD_CLOEXEC : 0) }
}
