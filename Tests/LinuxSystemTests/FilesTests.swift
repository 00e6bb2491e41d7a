import CLinux
import Glibc
import Testing

@testable import LinuxSystem

@Suite struct FilesTests {
    init() { Loop.runInBackground() }

    @Test func readsAndReplaces() throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/file"
        #expect(throws: SystemError("open", path, code: ENOENT)) { try readFile(path) }
        try replaceFile(path, Array("one".utf8), mode: 0o640)
        #expect(try readText(path) == "one")
        var status = stat()
        lstat(path, &status)
        #expect(status.st_mode & 0o777 == 0o640)
        // Who has it open reads the old one to its end.
        let old = try openFile(path, O_RDONLY)
        try replaceFile(path, Array("two".utf8), durable: true)
        #expect(try readFile(old.raw, path) == Array("one".utf8))
        #expect(try readText(path) == "two")
        #expect(try listDirectory(scratch.path) == ["file"], "nothing is left beside it")
        #expect(throws: SystemError.self) { try replaceFile("\(scratch.path)/no/file", []) }
        #expect(throws: SystemError("read", path, code: EFBIG)) { try readFile(path, limit: 2) }
        #expect(try readFile("/proc/self/status").count > 100)
    }

    @Test(.enabled(if: geteuid() == 0)) func replacesOnAFullDisk() throws {
        let scratch = try Scratch()
        try checked("mount", scratch.path) { mount("none", scratch.path, "tmpfs", 0, "size=64k") }
        defer { umount2(scratch.path, 2) }
        let file = SparedFile("\(scratch.path)/state", room: 8192)
        try file.replace(Array("{}".utf8))
        #expect(throws: SystemError.self) {
            try writeFile("\(scratch.path)/big", [UInt8](repeating: 1, count: 1 << 20), flags: O_WRONLY | O_CREAT)
        }
        #expect(throws: SystemError.self) { try replaceFile(file.path, Array("[0]".utf8)) }
        #expect(throws: SystemError.self) { try file.replace([UInt8](repeating: 32, count: 8193)) }
        #expect(try readText(file.path) == "{}", "what could not be replaced stays")
        try file.replace(Array("[1]".utf8))
        #expect(try readText(file.path).split(separator: " ") == ["[1]"])
        unlink("\(scratch.path)/big")
        try file.replace(Array("[2]".utf8))
        #expect(try readText(file.path) == "[2]")
        #expect(try listDirectory(scratch.path) == ["state", "state.spare"])
    }

    @Test func directories() throws {
        let scratch = try Scratch()
        try makeDirectories("\(scratch.path)/a/b/c")
        try makeDirectories("\(scratch.path)/a/b/c")
        #expect(try listDirectory("\(scratch.path)/a/b") == ["c"])
        let file = try scratch.file("file")
        #expect(throws: SystemError.self) { try makeDirectories("\(file)/x") }
        #expect(throws: SystemError.self) { try listDirectory(file) }
    }

    @Test func removesTreesAndNothingElse() throws {
        let scratch = try Scratch()
        let keep = try scratch.file("keep", "precious")
        let tree = "\(scratch.path)/tree"
        try makeDirectories("\(tree)/a/b")
        try makeDirectories("\(scratch.path)/elsewhere")
        try writeFile("\(scratch.path)/elsewhere/file", [1], flags: O_WRONLY | O_CREAT)
        symlink(keep, "\(tree)/link")
        symlink("\(scratch.path)/elsewhere", "\(tree)/a/folder-link")
        symlink("/no/where", "\(tree)/dangling")
        link(keep, "\(tree)/hard")
        mkfifo("\(tree)/fifo", 0o600)
        mkdir("\(tree)/locked", 0o000)
        for number in 0..<300 { try writeFile("\(tree)/a/b/\(number)", [], flags: O_WRONLY | O_CREAT) }
        #expect(exists("\(tree)/dangling"))
        try removeTree(tree)
        #expect(!exists(tree))
        #expect(try readText(keep) == "precious" && exists("\(scratch.path)/elsewhere/file"))
        try removeTree(tree)
        // A link itself, not what it leads to.
        symlink("\(scratch.path)/elsewhere", tree)
        try removeTree(tree)
        #expect(!exists(tree) && exists("\(scratch.path)/elsewhere/file"))
        try removeTree(keep)
        #expect(!exists(keep))
        try removeTree("\(scratch.path)/elsewhere/file/below-a-file")
    }

    @Test func doesNotCrossMounts() throws {
        let scratch = try Scratch()
        let tree = "\(scratch.path)/tree"
        try makeDirectories("\(tree)/mount")
        try mountFilesystem("tmpfs", "\(tree)/mount", type: "tmpfs")
        defer { #expect(throws: Never.self) { try unmountFilesystem("\(tree)/mount") } }
        try writeFile("\(tree)/mount/file", [1], flags: O_WRONLY | O_CREAT)
        #expect {
            try removeTree(tree)
        } throws: {
            ($0 as? SystemError)?.code == EBUSY && "\($0)".contains("another filesystem is mounted there")
        }
        #expect(exists("\(tree)/mount/file"))
        try unmountFilesystem("\(tree)/mount")
        try unmountFilesystem("\(tree)/mount")
        try removeTree(tree)
        #expect(!exists(tree))
    }

    @Test func deepTrees() throws {
        let scratch = try Scratch()
        // Deeper than a path may be long.
        var folder = try openFile(scratch.path, O_RDONLY | O_DIRECTORY)
        for _ in 0..<600 {
            let name = String(repeating: "d", count: 20)
            mkdirat(folder.raw, name, 0o700)
            folder = try openBelow(folder.raw, name, O_RDONLY | O_DIRECTORY, resolve: 0)
        }
        try removeTree(scratch.path)
        #expect(!exists(scratch.path))
    }

    @Test func openBelowStaysBelow() throws {
        let scratch = try Scratch()
        _ = try scratch.file("in", "x")
        symlink("/etc/passwd", "\(scratch.path)/out")
        let folder = try openFile(scratch.path, O_RDONLY | O_DIRECTORY)
        let beneath: UInt64 = 0x08
        let inner = try openBelow(folder.raw, "in", O_RDONLY, resolve: beneath)
        #expect(try readFile(inner.raw, "in") == [120])
        #expect(throws: SystemError("open", "out", code: EXDEV)) {
            _ = try openBelow(folder.raw, "out", O_RDONLY, resolve: beneath)
        }
        #expect(throws: SystemError("open", "..", code: EXDEV)) {
            _ = try openBelow(folder.raw, "..", O_RDONLY, resolve: beneath)
        }
    }

    @Test func locks() throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/lock"
        #expect(!FileLock.isHeld(path))
        do {
            let lock = try #require(try FileLock.attempt(path))
            #expect(FileLock.isHeld(path))
            #expect(try FileLock.attempt(path) == nil)
            #expect(try FileLock.attempt(path, shared: true) == nil)
            withExtendedLifetime(lock) {}
        }
        #expect(!FileLock.isHeld(path))
        do {
            let one = try FileLock.acquire(path, shared: true)
            let two = try #require(try FileLock.attempt(path, shared: true))
            #expect(try FileLock.attempt(path) == nil)
            withExtendedLifetime((one, two)) {}
        }
        #expect(try FileLock.attempt(path) != nil)
    }

    /// A lock is its last holder's: a child that has the descriptor keeps it.
    @Loop @Test func aChildHoldsALockOn() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/lock"
        var lock: FileLock? = try FileLock.acquire(path)
        var command = Spawn("/bin/sleep", ["60"])
        command.descriptors = [(lock!.raw, 3)]
        let child = try command.spawn()
        lock = nil
        #expect(FileLock.isHeld(path))
        child.signal(SIGKILL)
        _ = try await child.wait()
        #expect(!FileLock.isHeld(path))
    }

    /// A mount shows a folder's owners as another user namespace's.
    @Test func ownersAreMapped() throws {
        let scratch = try Scratch()
        try makeDirectories("\(scratch.path)/source")
        try makeDirectories("\(scratch.path)/target")
        try writeFile("\(scratch.path)/source/file", [1], flags: O_WRONLY | O_CREAT)
        chown("\(scratch.path)/source/file", 7, 8)
        let namespace = try makeUserNamespace(base: 100_000, count: 65_536)
        let mount = try DetachedMount(of: "\(scratch.path)/source", recursive: false)
        try mount.set(readOnly: true, noSuid: true, owners: namespace)
        try mount.attach(at: "\(scratch.path)/target")
        defer { #expect(throws: Never.self) { try unmountFilesystem("\(scratch.path)/target") } }
        var status = stat()
        lstat("\(scratch.path)/target/file", &status)
        #expect(status.st_uid == 100_007 && status.st_gid == 100_008)
        lstat("\(scratch.path)/source/file", &status)
        #expect(status.st_uid == 7 && status.st_gid == 8)
        #expect(throws: SystemError("open", "\(scratch.path)/target/file", code: EROFS)) {
            _ = try openFile("\(scratch.path)/target/file", O_WRONLY)
        }
    }
}
