import CLinux
import FoundationEssentials
import Glibc
public import LinuxSystem
import Machines
import OCISpec
import Storage

/// A snapshot as one stream of bytes, to be kept or carried elsewhere.
///
/// A line that names the format, a line with the SHA-256 of the manifest and its length, the manifest (JSON, with the length and the
/// digest of each file), then the files' blocks: each after twelve bytes, little-endian, with its place (8) and its length (4), the files in
/// the order of their names, each ended by a block without bytes whose place is the file's length. Blocks of zeros are left out.
///
/// It is read by nothing but this, without a library, because somebody else may have made it.
public enum SnapshotArchive {
    static let magic = "hull snapshot 1\n"
    /// The longest manifest.
    static let manifestLimit = 4 << 20
    /// The driver whose machines are saved by programs that are root.
    static let xen = "xen"
    /// The longest state of devices, and the longest log.
    static let stateLimit: UInt64 = 256 << 20
    static let logLimit = UInt64(2 * ContainerLog.limit)

    /// Where to and where from.
    public struct Header: Codable {
        var manifest: SnapshotManifest
        /// Bytes of each file.
        var sizes: [String: UInt64]
    }

    // MARK: out

    /// Writes the snapshot, which is whole, to `output`, a file or a pipe.
    public static func write(_ snapshot: SnapshotStore.Snapshot, to output: SharedDescriptor) throws {
        var header = Header(manifest: snapshot.manifest, sizes: [:])
        var files: [(name: String, file: SharedDescriptor)] = []
        for name in snapshot.manifest.files.keys.sorted() {
            let file = SharedDescriptor(try openFile("\(snapshot.folder)/\(name)", O_RDONLY))
            var status = stat()
            try checked("look at", name) { fstat(file.raw, &status) }
            header.sizes[name] = UInt64(status.st_size)
            header.manifest.files[name]?.digest = try digest(of: file, name)
            files.append((name, file))
        }
        let text = Array(try JSONEncoder().encode(header))
        try put(Array("\(magic)\(SHA256.digest(text).hex) \(text.count)\n".utf8) + text, to: output)
        for (name, file) in files {
            try SparseBlocks.each(of: file, name) { offset, bytes in
                try put(head(UInt64(offset), UInt32(bytes.count)), to: output)
                try put(bytes, to: output)
            }
            try put(head(header.sizes[name] ?? 0, 0), to: output)
        }
    }

    /// Of a file's length and of its blocks that are not zeros, with their places.
    static func digest(of file: SharedDescriptor, _ name: String) throws -> String {
        var status = stat()
        try checked("look at", name) { fstat(file.raw, &status) }
        var hash = SHA256()
        try SparseBlocks.each(of: file, name) { offset, bytes in
            hash.update(head(UInt64(offset), UInt32(bytes.count)))
            hash.update(bytes)
        }
        hash.update(head(UInt64(status.st_size), 0))
        return hash.finish().hex
    }

    private static func head(_ place: UInt64, _ count: UInt32) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: place >> ($0 * 8)) }
            + (0..<4).map { UInt8(truncatingIfNeeded: count >> ($0 * 8)) }
    }

    private static func put(_ bytes: [UInt8], to output: SharedDescriptor) throws {
        try bytes.withUnsafeBytes { try put($0, to: output) }
    }

    private static func put(_ bytes: UnsafeRawBufferPointer, to output: SharedDescriptor) throws {
        var done = 0
        while done < bytes.count {
            done += try checked("write", "the snapshot") {
                Glibc.write(output.raw, bytes.baseAddress! + done, bytes.count - done)
            }
        }
    }

    // MARK: in

    /// Reads a snapshot into the folder of `making`, and checks all of it. Throws when a byte is not what it was, when it is none of this
    /// Hull's, or when it asks something of this host and is not trusted to.
    public static func read(
        from input: SharedDescriptor, to making: SnapshotStore.Making, as name: String, isTrusted: Bool
    ) throws -> SnapshotManifest {
        var manifest = try read(from: input, to: making) { manifest in
            // Those name files of the host.
            guard manifest.container.engine == nil, manifest.fixed.isEmpty else {
                throw SandboxError("this is the checkpoint of a container engine: restore it with that")
            }
            if !isTrusted { try checkHarmless(manifest.container) }
        }
        manifest.name = name
        // A kernel of another host's is none of this one's, when the container is started again.
        manifest.container.machine.kernel = nil
        return manifest
    }

    /// The same, for who has other questions to its manifest.
    static func read(
        from input: SharedDescriptor, to making: SnapshotStore.Making, accept: (SnapshotManifest) throws -> Void
    ) throws -> SnapshotManifest {
        var reader = ArchiveReader(input)
        let header = try readHeader(&reader)
        try check(header)
        try accept(header.manifest)
        for (name, known) in header.manifest.files.sorted(by: { $0.key < $1.key }) {
            let size = header.sizes[name] ?? 0
            let file = SharedDescriptor(try openFile("\(making.folder)/\(name)", O_RDWR | O_CREAT | O_EXCL))
            try checked("set the length of", name) { ftruncate(file.raw, Int(size)) }
            try readBlocks(&reader, into: file, size: size, name)
            guard try digest(of: file, name) == known.digest else { throw damaged("its file \(name) is not what it was") }
        }
        guard try reader.isAtEnd() else { throw damaged("something follows its end") }
        return header.manifest
    }

    private static func readHeader(_ reader: inout ArchiveReader) throws -> Header {
        guard try reader.bytes(magic.utf8.count) == Array(magic.utf8) else {
            throw SandboxError("this is no snapshot of this Hull's: its first line is not '\(magic.dropLast())'")
        }
        let line = String(decoding: try reader.line(limit: 80), as: UTF8.self).split(separator: " ")
        guard line.count == 2, let count = Int(line[1]), (1...manifestLimit).contains(count) else {
            throw damaged("its second line makes no sense")
        }
        let text = try reader.bytes(count)
        guard SHA256.digest(text).hex == line[0] else { throw damaged("its manifest is not what it was") }
        do { return try JSONDecoder().decode(Header.self, from: Data(text)) } catch {
            throw SandboxError("the snapshot's manifest cannot be read: it was made by another Hull", cause: error)
        }
    }

    /// What must be so for any snapshot of this format, whoever made it.
    static func check(_ header: Header) throws {
        let manifest = header.manifest
        guard manifest.version == SnapshotManifest.version else {
            throw SandboxError(
                "the snapshot was made by Hull \(manifest.hull) in format \(manifest.version), and this Hull knows format \(SnapshotManifest.version)"
            )
        }
        try manifest.checkContainer()
        let machine = manifest.saved.machine
        // What travels is whole.
        guard manifest.parent == nil else { throw damaged("it is a part of one") }
        guard manifest.makesSense else { throw damaged("it makes no sense") }
        var wanted: [String: ClosedRange<UInt64>] = [
            "memory": machine.wholeMemory...machine.wholeMemory, "state": 1...stateLimit,
        ]
        // What came later is behind the rest, and comes in steps.
        if let growth = machine.growth, growth.memoryBytes < 1 << 46 {
            wanted["memory"] = machine.wholeMemory...machine.wholeMemory + growth.memoryBytes + (1 << 30)
        }
        if machine.hypervisor == xen {
            // Xen's tools save both in one stream.
            wanted["memory"] = 0...0
            wanted["state"] = 1...machine.wholeMemory + stateLimit
        }
        for disk in machine.disks where manifest.fixed[disk.name] == nil { wanted["disk-\(disk.name)"] = disk.size...disk.size }
        for log in ["container.log", "container.log.1"] where manifest.files[log] != nil { wanted[log] = 0...logLimit }
        guard Set(manifest.files.keys) == Set(wanted.keys), Set(header.sizes.keys) == Set(wanted.keys) else {
            throw damaged("it has other files than its machine needs")
        }
        for (name, range) in wanted {
            guard SnapshotStore.isFileName(name), let size = header.sizes[name], range.contains(size), size <= 1 << 46 else {
                throw damaged("its file \(name) has a length that it cannot have")
            }
        }
    }

    /// Throws where the container would be given something of this host when it is restored: whoever made the snapshot chose what.
    static func checkHarmless(_ container: ContainerRecord) throws {
        var asked: [String] = []
        if case .folder(let path) = container.root { asked.append("the folder \(path) as its root") }
        for mount in container.mounts {
            switch mount.source {
            case .bind(let path): asked.append("the folder \(path)")
            case .volume(let name, _): asked.append("the volume \(name)")
            case .tmpfs: break
            }
        }
        if container.machine.hypervisor == xen { asked.append("the reading of a domain's state by Xen's tools, as root") }
        for port in container.network.ports { asked.append("the published port \(port)") }
        if let first = asked.first {
            let more = asked.count > 1 ? " and \(asked.count - 1) more" : ""
            throw SandboxError(
                "the snapshot's container asks this host for \(first)\(more): import it with --trust if you know who made it")
        }
    }

    private static func readBlocks(_ reader: inout ArchiveReader, into file: SharedDescriptor, size: UInt64, _ name: String)
        throws
    {
        var least: UInt64 = 0
        while true {
            let head = try reader.bytes(12)
            let place = head[..<8].enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << (8 * $1.offset) }
            let count = head[8...].enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
            if count == 0 {
                guard place == size else { throw damaged("its file \(name) ends where it cannot") }
                return
            }
            guard count <= SparseBlocks.size, place >= least, place <= size, UInt64(count) <= size - place else {
                throw damaged("a block of its file \(name) is where it cannot be")
            }
            let bytes = try reader.bytes(count)
            least = place + UInt64(count)
            var done = 0
            while done < count {
                done += try checked("write", name) {
                    bytes.withUnsafeBytes { pwrite(file.raw, $0.baseAddress! + done, count - done, Int(place) + done) }
                }
            }
        }
    }

    static func damaged(_ how: String) -> SandboxError { SandboxError("the snapshot is damaged: \(how)") }
}

/// Reads a stream whose end may come too early.
struct ArchiveReader {
    private let input: SharedDescriptor
    private var buffer: [UInt8] = []
    private var start = 0

    init(_ input: SharedDescriptor) { self.input = input }

    /// Exactly so many bytes.
    mutating func bytes(_ count: Int) throws -> [UInt8] {
        while buffer.count - start < count {
            guard try fill() else { throw SnapshotArchive.damaged("it ends too early") }
        }
        defer { start += count }
        return Array(buffer[start..<start + count])
    }

    /// Up to the next newline, without it.
    mutating func line(limit: Int) throws -> [UInt8] {
        var line: [UInt8] = []
        while line.count <= limit {
            let byte = try bytes(1)[0]
            if byte == 10 { return line }
            line.append(byte)
        }
        throw SnapshotArchive.damaged("a line of it does not end")
    }

    mutating func isAtEnd() throws -> Bool {
        if start < buffer.count { return false }
        return try !fill()
    }

    private mutating func fill() throws -> Bool {
        buffer.removeFirst(start)
        start = 0
        var failure: Int32 = 0
        let more = [UInt8](unsafeUninitializedCapacity: 1 << 18) { room, count in
            var got: Int
            repeat { got = read(input.raw, room.baseAddress, room.count) } while got < 0 && errno == EINTR
            failure = got < 0 ? errno : 0
            count = max(0, got)
        }
        if failure != 0 { throw SystemError("read", "the snapshot", code: failure) }
        buffer += more
        return !more.isEmpty
    }
}
