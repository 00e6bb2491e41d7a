import ArgumentParser
import EngineSetup
import Glibc
import LinuxSystem
import Sandboxes

/// Tells a container engine of hull-runtime.
struct Install: Verb {
    static let configuration = CommandConfiguration(
        commandName: "install",
        abstract: "Make a container engine know hull-runtime: docker, podman, containerd or kubernetes.",
        discussion: """
            Edits the engine's configuration, says what it changed and how to reload it; a second time it changes nothing. What it \
            cannot read it leaves as it is. For kubernetes it writes the manifest of a RuntimeClass.
            """)

    @Argument(help: "docker, podman, containerd or kubernetes.") var engine: String
    @Flag(name: .long, help: "Say what would change, and change nothing.") var dryRun = false
    @Option(name: .long, help: "The engine's program for containers (default: hull-runtime beside hull).") var runtime: String?
    @Option(name: .long, help: "Take the host's files below this folder instead of /.") var destdir = ""

    func perform() async throws -> Int32 {
        let path = try runtime.map(Globals.absolute) ?? Self.own()
        guard access(path, X_OK) == 0 else {
            throw SandboxError("\(path) is no program, so no engine could run it: make install puts hull-runtime beside hull")
        }
        let place = EngineFiles(root: destdir)
        return try place.perform(try EngineFiles.engine(engine), dryRun: dryRun) {
            try EngineSetup(runtime: path, read: place.read).install($0)
        }
    }

    /// The program beside this one.
    private static func own() throws -> String {
        guard let path = readLink("/proc/self/exe") else { throw SandboxError("cannot tell where hull is: give --runtime PATH") }
        return path[..<(path.lastIndex(of: "/") ?? path.startIndex)] + "/hull-runtime"
    }
}

/// Makes it forget.
struct Uninstall: Verb {
    static let configuration = CommandConfiguration(
        commandName: "uninstall",
        abstract: "Take back what hull install did.",
        discussion: "What else stands in the engine's configuration stays; containers that run go on.")

    @Argument(help: "docker, podman, containerd or kubernetes.") var engine: String
    @Flag(name: .long, help: "Say what would change, and change nothing.") var dryRun = false
    @Option(name: .long, help: "Take the host's files below this folder instead of /.") var destdir = ""

    func perform() async throws -> Int32 {
        let place = EngineFiles(root: destdir)
        return try place.perform(try EngineFiles.engine(engine), dryRun: dryRun) {
            try EngineSetup(runtime: "", read: place.read).uninstall($0)
        }
    }
}

/// The engines' configuration on a host, or below a folder that is to become one.
private struct EngineFiles: Sendable {
    let root: String

    init(root: String) {
        var root = root.isEmpty ? "" : Globals.absolute(root)
        while root.hasSuffix("/") { root.removeLast() }
        self.root = root
    }

    static func engine(_ name: String) throws -> ContainerEngine {
        guard let engine = ContainerEngine(rawValue: name) else {
            throw SandboxError(
                "unknown engine \"\(name)\": \(ContainerEngine.allCases.map(\.rawValue).joined(separator: ", ")) are known")
        }
        return engine
    }

    @Sendable func read(_ path: String) throws -> String? {
        do {
            let bytes = try readFile(root + path)
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw SandboxError("\(root)\(path) is no text (UTF-8): it is left as it is")
            }
            return text
        } catch let error as SystemError where error.code == ENOENT { return nil }
    }

    func perform(_ engine: ContainerEngine, dryRun: Bool, _ plan: (ContainerEngine) throws -> EngineChange) throws -> Int32 {
        let change: EngineChange
        do { change = try plan(engine) } catch let error as EngineSetupError { throw SandboxError("\(error)") }
        let path = root + change.path
        if change.isNothing {
            print("\(path): nothing to change")
        } else {
            if !dryRun { try write(change, to: path) }
            let done = change.old == nil ? "written" : change.new == nil ? "removed" : "changed"
            print("\(path): \(dryRun ? "would be " : "")\(done): \(change.summary)")
            for line in change.differences { print("    \(line)") }
        }
        for remark in change.remarks { print(remark) }
        return 0
    }

    private func write(_ change: EngineChange, to path: String) throws {
        // Behind a symbolic link is the file that is meant.
        let real = realpath(path, nil)
        defer { free(real) }
        let file = real.map { String(cString: $0) } ?? path
        guard let new = change.new else {
            try checked("remove", file) { unlink(file) }
            return
        }
        try makeDirectories(String(file[..<(file.lastIndex(of: "/") ?? file.startIndex)]), mode: 0o755)
        var status = stat()
        let isThere = stat(file, &status) == 0
        try replaceFile(file, Array(new.utf8), mode: isThere ? status.st_mode & 0o7777 : 0o644, durable: true)
        if isThere { _ = try checked("give back to its owner", file) { chown(file, status.st_uid, status.st_gid) } }
        // The umask had its say at the making.
        _ = try checked("set the mode of", file) { chmod(file, isThere ? status.st_mode & 0o7777 : 0o644) }
    }
}
