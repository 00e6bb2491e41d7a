import CLinux
import Glibc
import LinuxSystem
import Machines

/// A machine's memory, and how it gets into a file. Both ways leave alone what the guest never touched:
///
/// - The memory of a machine with a share is a file in memory, which the share's server writes to as well: what has data there is read.
/// - All other memory is QEMU's own, over nothing or over a saved machine's file: the pages that are its own (proc_pid_pagemap(5)) are read
///   from its process, and all others are as in that file.
///
/// `copy` may be called while the guest runs: the next call then only has to write what has changed, which it finds by comparing. `record` is
/// the same for who wants only what is different from what was saved before.
struct GuestMemory {
    enum Place {
        case file(SharedDescriptor)
        /// QEMU, by its pid for us and for /proc, and the file of the saved machine it was made of.
        case process(pid: Int32, shown: Int32, over: SharedDescriptor?)
    }

    /// At once in a buffer: what is read and what it is compared with stay in the processor's cache. And the guest's page.
    static let piece = 128 << 10
    static let page = 4096

    var place: Place
    /// Bytes.
    var size: UInt64
    /// Where it is in QEMU's address space (`process`).
    var address: UInt64
    /// Where it comes in the file that it is copied to.
    var offset = 0
    /// What was copied before: a page that the guest gave back since is to be looked at, too.
    var before: [Range<Int>] = []
    /// Whether all was compared once (`record`).
    var isCompared = false

    init(_ place: Place, size: UInt64, address: UInt64, offset: Int = 0) {
        self.offset = offset
        self.place = place
        self.size = size
        self.address = address
    }

    /// Brings `target` to what the memory holds. `yield` is called every now and then.
    mutating func copy(to target: SharedDescriptor, yield: @Loop () async -> Void) async throws {
        if before.isEmpty, case .process(_, _, let base?) = place {
            if hull_ioctl_clone_file(target.raw, base.raw) != 0 {
                try copyData(from: base, 0..<Int(size), to: target, Self.name)
            }
            await yield()
        }
        let now = try extents()
        // Nothing of what may come later has come: the file ends before it.
        if !now.isEmpty || offset == 0 {
            var status = stat()
            try checked("look at", Self.name) { fstat(target.raw, &status) }
            if status.st_size < offset + Int(size) {
                try checked("set the length of", Self.name) { ftruncate(target.raw, offset + Int(size)) }
            }
        }
        let buffers = UnsafeMutableRawBufferPointer.allocate(byteCount: 3 * Self.piece, alignment: Self.page)
        defer { buffers.deallocate() }
        // Holes are not read: a filesystem takes its time to make zeros of them.
        let zeros = UnsafeRawBufferPointer(rebasing: buffers[(2 * Self.piece)...])
        buffers.initializeMemory(as: UInt8.self, repeating: 0)
        var filled = try dataRanges(of: target, below: offset + Int(size), Self.name)[...]
        let source = UnsafeMutableRawBufferPointer(rebasing: buffers[..<Self.piece])
        let there = UnsafeMutableRawBufferPointer(rebasing: buffers[Self.piece..<2 * Self.piece])
        var copied = 0
        for extent in (now + before).joined {
            var start = extent.lowerBound
            while start < extent.upperBound {
                let count = min(Self.piece, extent.upperBound - start)
                try read(UnsafeMutableRawBufferPointer(rebasing: source[..<count]), at: start)
                while let first = filled.first, first.upperBound <= offset + start { filled.removeFirst() }
                var known = UnsafeRawBufferPointer(rebasing: zeros[..<count])
                if let first = filled.first, first.lowerBound < offset + start + count {
                    let got = try checked("read", Self.name) { pread(target.raw, there.baseAddress, count, offset + start) }
                    guard got == count else { throw SystemError("read", Self.name, code: EIO) }
                    known = UnsafeRawBufferPointer(rebasing: there[..<count])
                }
                try Self.update(
                    target.raw, at: offset + start, UnsafeRawBufferPointer(rebasing: source[..<count]), there: known)
                start += count
                copied += count
                if copied >= 16 << 20 {
                    copied = 0
                    await yield()
                }
            }
        }
        before = now
    }

    static let name = "the guest's memory"

    /// Writes the pages of `bytes` that differ from what is in the file. What was never written reads as zeros, and so empty pages stay holes.
    static func update(_ target: Int32, at start: Int, _ bytes: UnsafeRawBufferPointer, there: UnsafeRawBufferPointer) throws {
        var first: Int?
        for offset in stride(from: 0, through: bytes.count, by: page) {
            let differs =
                offset < bytes.count
                && memcmp(bytes.baseAddress! + offset, there.baseAddress! + offset, min(page, bytes.count - offset)) != 0
            if differs {
                if first == nil { first = offset }
            } else if let begin = first {
                var done = begin
                while done < offset {
                    done += try checked("write", name) {
                        pwrite(target, bytes.baseAddress! + done, min(offset, bytes.count) - done, start + done)
                    }
                }
                first = nil
            }
        }
    }

    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws {
        var done = 0
        while done < buffer.count {
            let got: Int
            switch place {
            case .file(let file): got = pread(file.raw, buffer.baseAddress! + done, buffer.count - done, offset + done)
            case .process(let pid, _, _):
                got = hull_read_process(pid, buffer.baseAddress! + done, address + UInt64(offset + done), buffer.count - done)
            }
            if got < 0, errno == EINTR { continue }
            guard got > 0 else { throw SystemError("read", Self.name, code: got == 0 ? EIO : errno) }
            done += got
        }
    }

    /// The ranges that may hold something of the machine's own, in order.
    func extents() throws -> [Range<Int>] {
        switch place {
        case .file(let file): try dataRanges(of: file, below: Int(size), Self.name)
        case .process(_, let shown, _): try ownPages(of: shown)
        }
    }

    private func ownPages(of pid: Int32) throws -> [Range<Int>] {
        let map = try openFile("/proc/\(pid)/pagemap", O_RDONLY)
        var all: [Range<Int>] = []
        let count = Int(size) / Self.page
        var index = 0
        while index < count {
            let wanted = min(65536, count - index)
            var failure: Int32 = 0
            let entries = [UInt64](unsafeUninitializedCapacity: wanted) { buffer, used in
                let got = pread(map.raw, buffer.baseAddress, wanted * 8, (Int(address) / Self.page + index) * 8)
                failure = got < 0 ? errno : 0
                used = max(0, got) / 8
            }
            guard !entries.isEmpty else { throw SystemError("read the page map of", "QEMU", code: failure) }
            for entry in entries {
                // Present, or in the swap; and no page of the file below.
                if entry >> 62 != 0, entry & (1 << 61) == 0 {
                    let start = index * Self.page
                    if let last = all.last, last.upperBound == start {
                        all[all.count - 1] = last.lowerBound..<start + Self.page
                    } else {
                        all.append(start..<start + Self.page)
                    }
                }
                index += 1
            }
        }
        return all
    }

    /// Where QEMU has the block `memory`, from what it answers to `info ramblock`: a line for each, with name, page size and its unit,
    /// offset, used and total length, and the address (QEMU 8.0). Nil where there is no such line, or it is not of `size` bytes.
    static func address(in text: String, size: UInt64) -> UInt64? {
        for line in text.split(whereSeparator: { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }) {
            let words = line.split(separator: " ")
            guard words.count >= 7, words[0] == "memory" else { continue }
            func number(_ word: Substring) -> UInt64? { word.hasPrefix("0x") ? UInt64(word.dropFirst(2), radix: 16) : nil }
            guard number(words[4]) == size, let address = number(words[6]), address % UInt64(page) == 0 else { return nil }
            return address
        }
        return nil
    }
}
