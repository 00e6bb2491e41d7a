import CLinux
import Glibc
import LinuxSystem
import Machines
import Testing

@testable import Kernels
@testable import MachineProcesses
@testable import QEMUDriver

/// Real machines for the tests: the host's kernel, and an agent that is a shell.
@Loop
struct Lab {
    /// Why no machine can be run here; nil when one can.
    nonisolated static let obstacle: String? = {
        if getuid() != 0 { return "machines need root" }
        do { _ = try QEMUProgram.find() } catch { return "\(error)" }
        if access("/bin/busybox", X_OK) != 0 { return "no /bin/busybox: install busybox-static" }
        if !((try? listDirectory("/boot")) ?? []).contains(where: { $0.hasPrefix("vmlinuz-") }) {
            return "no kernel in /boot: install linux-image-cloud-amd64"
        }
        return nil
    }()
    nonisolated static var canRun: Bool {
        if let obstacle { print("machines are not tested: \(obstacle)") }
        return obstacle == nil
    }
    nonisolated static var canShare: Bool { canRun && ShareServerProgram.find() != nil }

    /// A folder of the test's own.
    let folder: String
    let uidBase: UInt32

    private static var lastUIDs: UInt32 = 0x3000_0000

    /// Runs `body` with a folder that is gone afterwards, and checks that nothing is mounted in it then.
    nonisolated static func run<R: Sendable>(_ body: @Loop (Lab) async throws -> R) async throws -> R {
        Loop.runInBackground()
        return try await inFolder(body)
    }

    private static func inFolder<R: Sendable>(_ body: @Loop (Lab) async throws -> R) async throws -> R {
        var template = Array("/tmp/hull-machine-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("make a folder") }
        lastUIDs += 0x2_0000
        let lab = Lab(
            folder: String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self), uidBase: lastUIDs)
        try makeDirectories("\(lab.folder)/machine")
        let result: R
        do { result = try await body(lab) } catch {
            lab.cleanUp()
            throw error
        }
        #expect(try listDirectory("\(lab.folder)/machine") == [])
        lab.cleanUp()
        return result
    }

    private func cleanUp() {
        #expect((try? readText("/proc/self/mountinfo"))?.contains(folder) == false)
        try? removeTree(folder)
    }

    var directory: MachineDirectory { MachineDirectory("\(folder)/machine") }

    /// The host's kernel and an initramfs with the modules and the shell, kept for all tests of a run.
    private static var prepared: (kernel: Kernel, initramfs: [String: String])?
    private static let cache = "/tmp/hull-machine-tests"

    static func kernel() async throws -> Kernel {
        if let prepared { return prepared.kernel }
        let kernel = try await KernelStore(cache: cache, library: KernelLibrary("\(cache)/library")).kernel()
        prepared = (kernel, [:])
        return kernel
    }

    private static func initramfs(_ modules: [String]) async throws -> String {
        let kernel = try await kernel()
        let key = modules.joined(separator: "-")
        if let known = prepared?.initramfs[key] { return known }
        let tree = try #require(kernel.modules)
        let index = ModuleIndex(
            dependencies: try readText("\(tree)/modules.dep"), builtin: try readText("\(tree)/modules.builtin"))
        var archive = CPIOArchive()
        for name in ["dev", "proc", "sys", "mnt", "modules"] { archive.addFolder(name) }
        archive.addFile("busybox", try readFile("/bin/busybox"), mode: 0o755)
        archive.addFile("init", Array(shell.utf8), mode: 0o755)
        var order = ""
        for path in try index.order(of: modules) {
            let name = ModuleIndex.name(path)
            archive.addFile("modules/\(name).ko", try readFile("\(tree)/\(path)"), mode: 0o644)
            order += "\(name).ko\n"
        }
        archive.addFile("modules/order", Array(order.utf8), mode: 0o644)
        archive.finish()
        let path = "\(cache)/initramfs-\(key)"
        try replaceFile(path, archive.bytes, mode: 0o644)
        prepared?.initramfs[key] = path
        return path
    }

    /// The agent: it runs each line that comes as a command, and answers with its output and `@@ STATUS`.
    private static let shell = """
        #!/busybox sh
        B=/busybox
        $B mkdir /bin; $B mount -t proc proc /proc; $B --install -s /bin
        export PATH=/bin
        mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
        while read -r m; do insmod /modules/$m; done </modules/order
        # The port's name comes in a message from the host, a moment after the module.
        until p=$(grep -lx hull.agent /sys/class/virtio-ports/*/name 2>/dev/null); do usleep 1000; done
        p=${p%/name}
        exec 3<>/dev/${p##*/}
        echo READY >&3
        while read -r line <&3; do
          (eval "$line") </dev/null >&3 2>&1
          echo "@@ $?" >&3
        done
        """

    /// A machine with the shell in it, and what a test adds.
    func spec(modules: [String] = [], _ change: (inout MachineSpec) -> Void = { _ in }) async throws -> MachineSpec {
        var spec = MachineSpec(
            id: "test", memoryBytes: 256 << 20, kernel: try await Self.kernel().image, initramfs: "",
            consoleLog: "\(folder)/console.log", confinement: Confinement(uidBase: uidBase))
        change(&spec)
        spec.initramfs = try await Self.initramfs(try QEMU().layout(of: spec).modules + modules)
        return spec
    }

    /// Runs a machine and talks to its shell.
    func withShell<R: Sendable>(
        _ spec: MachineSpec, _ body: @Loop (any VirtualMachine, Shell) async throws -> R
    ) async throws -> R {
        try await QEMU().withMachine(.boot(spec), in: directory) { machine in
            let shell = Shell(try await machine.connect())
            do {
                let word = try await withDeadline(.seconds(90), awaiting: "the shell's first word") { try await shell.line() }
                #expect(word == "READY")
            } catch {
                throw MachineError(.startFailed, "no shell", cause: error, consoleTail: machine.consoleTail(lines: 30))
            }
            return try await body(machine, shell)
        }
    }
}

/// The shell in a machine.
@Loop
final class Shell {
    let stream: SharedDescriptor
    private var pending: [UInt8] = []

    init(_ stream: SharedDescriptor) { self.stream = stream }

    func line() async throws -> String {
        while true {
            if let end = pending.firstIndex(of: 10) {
                defer { pending.removeFirst(end + 1) }
                return String(decoding: pending[..<end], as: UTF8.self)
            }
            let bytes = try await readSome(stream.raw)
            if bytes.isEmpty { throw SystemError("read from the shell", code: EPIPE) }
            pending += bytes
        }
    }

    /// Raw bytes of the stream.
    func bytes(_ count: Int) async throws -> [UInt8] {
        while pending.count < count { pending += try await readSome(stream.raw) }
        defer { pending.removeFirst(count) }
        return Array(pending[..<count])
    }

    func send(_ text: String) async throws { try await writeAll(stream.raw, Array((text + "\n").utf8)) }

    /// Runs a command in the guest; its output, and its status in front of it when it is not 0.
    func run(_ command: String) async throws -> String {
        try await send(command)
        return try await withDeadline(.seconds(60), awaiting: "the end of '\(command)' in the guest") {
            var lines: [String] = []
            while true {
                let line = try await self.line()
                if line.hasPrefix("@@ ") {
                    return (line == "@@ 0" ? "" : "[\(line.dropFirst(3))] ") + lines.joined(separator: "\n")
                }
                lines.append(line)
            }
        }
    }
}
