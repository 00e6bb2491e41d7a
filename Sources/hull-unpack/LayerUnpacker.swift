import CArchive
import CLinux
import Glibc

/// Puts layers over each other into a tree.
struct LayerUnpacker {
    private var tree: Tree
    private let limits: (bytes: UInt64, entries: UInt64)
    /// Lengths of all files, holes counted.
    private(set) var bytes: UInt64 = 0
    /// What was written of them.
    private(set) var written: UInt64 = 0
    private(set) var entries: UInt64 = 0
    private var devices = 0
    private var attributesLost = false

    init(root: String, bytes: UInt64, entries: UInt64) throws(UnpackFailure) {
        tree = try Tree(root: root)
        limits = (bytes, entries)
    }

    /// Unpacks the layer behind `descriptor`, and checks that its uncompressed bytes have the digest `expected`.
    mutating func unpack(_ descriptor: Int32, expected: String, progress: @escaping (UInt64) -> Void) throws(UnpackFailure) {
        guard let hash = StreamHash(expected.prefix { $0 != ":" }) else {
            throw UnpackFailure(.system, "no digest algorithm in \(expected)")
        }
        // Headers and padding take room too: 2 KiB an entry is generous.
        let (most, overflow) = limits.bytes.addingReportingOverflow(limits.entries &* 2048)
        let stream = try LayerStream(descriptor, hash: hash, limit: overflow ? .max : most, progress: progress)
        let archive = archive_read_new()!
        defer { archive_read_free(archive) }
        archive_read_support_format_tar(archive)
        archive_read_support_format_empty(archive)
        archive_read_set_callback_data(archive, Unmanaged.passUnretained(stream).toOpaque())
        archive_read_set_read_callback(archive) { _, data, buffer in
            let stream = Unmanaged<LayerStream>.fromOpaque(data!).takeUnretainedValue()
            guard let bytes = stream.next() else { return -1 }
            buffer!.pointee = bytes.baseAddress
            return bytes.count
        }
        func fail() -> UnpackFailure {
            stream.failure ?? UnpackFailure(.damaged, "it is damaged, truncated or no tar archive: \(complaint(archive))")
        }
        if archive_read_open1(archive) != ARCHIVE_OK { throw fail() }
        while true {
            var entry: OpaquePointer?
            let result = archive_read_next_header(archive, &entry)
            if result == ARCHIVE_EOF { break }
            guard result == ARCHIVE_OK || result == ARCHIVE_WARN, let entry else { throw fail() }
            // A warning about the owner's name is nothing: only numbers count. One about the entry's own name is.
            if result == ARCHIVE_WARN, complaint(archive).hasPrefix("Pathname") || complaint(archive).hasPrefix("Linkname") {
                throw UnpackFailure(.hostile, "an entry's name is declared to be UTF-8 and is not")
            }
            do {
                try apply(entry, archive)
            } catch {
                // What ended the stream ended the entry.
                throw stream.failure ?? error
            }
        }
        let found = try stream.finish()
        if found != expected {
            throw UnpackFailure(
                .mismatch, "its uncompressed content has the digest \(found), and the image's config says \(expected)")
        }
        try tree.finishLayer()
        if devices > 0 {
            say("note \(devices) device nodes were left out: the guest makes its own")
            devices = 0
        }
    }

    private mutating func apply(_ entry: OpaquePointer, _ archive: OpaquePointer) throws(UnpackFailure) {
        entries += 1
        if entries > limits.entries { throw UnpackFailure(.tooBig, "the image has more than \(limits.entries) entries") }
        let raw = text(archive_entry_pathname(entry))
        let path: EntryPath
        do { path = try EntryPath(raw) } catch {
            switch error {
            case .climbs: throw UnpackFailure(.hostile, "the entry \(quoted(raw)) climbs with \"..\", as no entry may")
            case .tooLong: throw UnpackFailure(.hostile, "the entry \(quoted(raw)) has a name that is too long")
            }
        }
        if let whiteout = path.whiteout {
            guard whiteout != .invalid else { throw UnpackFailure(.hostile, "the entry \(quoted(raw)) is a whiteout of nothing") }
            // What hides nothing makes nothing either, unless its folder is this layer's news.
            guard let folder = try tree.folder(path.parent, making: false) else { return }
            switch whiteout {
            case .remove(let name): try tree.whiteout(folder, name)
            case .opaque: try tree.opaque(folder)
            case .ignored, .invalid: break
            }
            return
        }
        let attributes = try Attributes(entry, path)
        if path.isRoot {
            guard archive_entry_filetype(entry) == S_IFDIR else {
                throw UnpackFailure(.hostile, "an entry makes the root something else than a folder")
            }
            let directory = try tree.rootDirectory(time: attributes.time)
            defer { close(directory) }
            try set(attributes, directory, entry, path)
            return
        }
        let folder = try tree.folder(path.parent, making: true)!
        if let link = archive_entry_hardlink(entry) {
            let target: EntryPath
            do { target = try EntryPath(text(link)) } catch {
                throw UnpackFailure(.hostile, "the hard link \(quoted(raw)) leads out of the root, to \(quoted(text(link)))")
            }
            try tree.hardLink(folder, path, to: target)
            return
        }
        switch archive_entry_filetype(entry) {
        case S_IFDIR:
            let directory = try tree.directory(folder, path, time: attributes.time)
            defer { close(directory) }
            try set(attributes, directory, entry, path)
        case S_IFREG:
            try tree.clear(folder, path)
            let file = path.name.withCString {
                openat(folder.raw, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
            }
            if file < 0 { throw .system("make", path.whole) }
            defer { close(file) }
            try write(entry, archive, file, path)
            try set(attributes, file, entry, path)
            let times = [attributes.time, attributes.time]
            if futimens(file, times) != 0 { throw .system("set the time of", path.whole) }
        case S_IFLNK:
            let target = text(archive_entry_symlink(entry))
            if target.isEmpty || target.count > 4095 {
                throw UnpackFailure(.hostile, "the symbolic link \(quoted(raw)) has no target, or one of more than 4095 bytes")
            }
            try tree.clear(folder, path)
            let failed = target.withCString { target in path.name.withCString { symlinkat(target, folder.raw, $0) } }
            if failed != 0 { throw .system("make the link", path.whole) }
            try setUnopened(attributes, folder, path)
        case S_IFIFO:
            try tree.clear(folder, path)
            if path.name.withCString({ mknodat(folder.raw, $0, S_IFIFO | 0o600, 0) }) != 0 { throw .system("make", path.whole) }
            if path.name.withCString({ fchmodat(folder.raw, $0, attributes.mode, 0) }) != 0 {
                throw .system("set the mode of", path.whole)
            }
            try setUnopened(attributes, folder, path)
        case S_IFCHR, S_IFBLK:
            // As engines without root do: a guest's /dev is the agent's, and a device in an image has no other use.
            try tree.clear(folder, path)
            devices += 1
        default:
            throw UnpackFailure(.hostile, "the entry \(quoted(raw)) is of a kind that no root has")
        }
    }

    private mutating func write(_ entry: OpaquePointer, _ archive: OpaquePointer, _ file: Int32, _ path: EntryPath)
        throws(UnpackFailure)
    {
        let size = archive_entry_size(entry)
        func tooBig() -> UnpackFailure {
            UnpackFailure(.tooBig, "\(quoted(path.whole)) brings the image over \(limits.bytes) bytes, holes counted")
        }
        let (total, overflow) = bytes.addingReportingOverflow(UInt64(clamping: size))
        guard size >= 0, !overflow, total <= limits.bytes else { throw tooBig() }
        bytes = total
        var end: Int64 = 0
        while true {
            var block: UnsafeRawPointer?
            var count = 0
            var offset: Int64 = 0
            let result = archive_read_data_block(archive, &block, &count, &offset)
            if result == ARCHIVE_EOF { break }
            guard result == ARCHIVE_OK else {
                throw UnpackFailure(.damaged, "it ends or breaks inside \(quoted(path.whole)): \(complaint(archive))")
            }
            guard offset >= 0, Int64(count) <= size, offset <= size - Int64(count) else {
                throw UnpackFailure(.damaged, "\(quoted(path.whole)) has more bytes than its header says")
            }
            var done = 0
            while done < count {
                let wrote = pwrite(file, block! + done, count - done, Int(offset) + done)
                if wrote < 0 && errno == EINTR { continue }
                if wrote < 0 { throw .system("write", path.whole) }
                done += wrote
            }
            written += UInt64(count)
            end = max(end, offset + Int64(count))
        }
        // A hole at the end is only a length.
        if end < size, ftruncate(file, Int(size)) != 0 { throw .system("set the length of", path.whole) }
    }

    private mutating func set(_ attributes: Attributes, _ raw: Int32, _ entry: OpaquePointer, _ path: EntryPath)
        throws(UnpackFailure)
    {
        // In this order: a change of owner clears the set-uid bits and the file's capabilities.
        if fchown(raw, attributes.uid, attributes.gid) != 0 { throw .system("set the owner of", path.whole) }
        if fchmod(raw, attributes.mode) != 0 { throw .system("set the mode of", path.whole) }
        archive_entry_xattr_reset(entry)
        var name: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var size = 0
        while archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK {
            guard let name, Attributes.isKept(String(cString: name)) else { continue }
            guard fsetxattr(raw, name, value, size, 0) != 0 else { continue }
            if errno == ENOTSUP {
                if !attributesLost { say("note extended attributes were left out: the store's file system has none") }
                attributesLost = true
            } else {
                // ext4 says "no space" of an attribute that is too large for it.
                throw UnpackFailure(
                    .system,
                    "set the attribute \(quoted(text(name))) of \(quoted(path.whole)): \(String(cString: strerror(errno)))")
            }
        }
    }

    private func setUnopened(_ attributes: Attributes, _ folder: Tree.Folder, _ path: EntryPath) throws(UnpackFailure) {
        if path.name.withCString({ fchownat(folder.raw, $0, attributes.uid, attributes.gid, AT_SYMLINK_NOFOLLOW) }) != 0 {
            throw .system("set the owner of", path.whole)
        }
        let times = [attributes.time, attributes.time]
        if path.name.withCString({ utimensat(folder.raw, $0, times, AT_SYMLINK_NOFOLLOW) }) != 0 {
            throw .system("set the time of", path.whole)
        }
    }
}

/// Owner, mode and time of an entry, checked.
struct Attributes {
    var uid: UInt32
    var gid: UInt32
    var mode: mode_t
    var time: timespec

    init(_ entry: OpaquePointer, _ path: EntryPath) throws(UnpackFailure) {
        guard let uid = UInt32(exactly: archive_entry_uid(entry)), let gid = UInt32(exactly: archive_entry_gid(entry)),
            uid != .max, gid != .max
        else { throw UnpackFailure(.hostile, "\(quoted(path.whole)) has an owner that no system can have") }
        self.uid = uid
        self.gid = gid
        mode = archive_entry_perm(entry) & 0o7777
        let nanoseconds = archive_entry_mtime_nsec(entry)
        time = timespec(tv_sec: archive_entry_mtime(entry), tv_nsec: (0..<1_000_000_000).contains(nanoseconds) ? nanoseconds : 0)
    }

    /// The attributes that mean something inside a guest. Not `trusted.*` and `security.selinux`: they would steer the
    /// guest's overlay and policy.
    static func isKept(_ name: String) -> Bool {
        name.hasPrefix("user.") || name == "security.capability" || name == "system.posix_acl_access"
            || name == "system.posix_acl_default"
    }
}

private func text(_ pointer: UnsafePointer<CChar>?) -> [UInt8] {
    guard let pointer else { return [] }
    return Array(UnsafeRawBufferPointer(start: pointer, count: strlen(pointer)))
}
