import Glibc
import LinuxSystem

/// A program of the host that works between two open files: never a shell, never a path of the data.
@Loop
enum HostProgram {
    /// Runs `name` with `input` as its standard input and `output` as its standard output.
    static func run(
        _ name: String, _ arguments: [String], package: String, input: (any DescriptorSource)? = nil, output: Int32? = nil
    ) async throws {
        guard
            let path = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
                .first(where: { access("\($0)/\(name)", X_OK) == 0 }).map({ folder in "\(folder)/\(name)" })
        else { throw KernelError("\(name) is missing: install the package \(package)") }
        let (child, complaints) = try start(Spawn(path, arguments), input, output)
        let said = try await withTaskCancellationHandler {
            var all: [UInt8] = []
            while true {
                let bytes = try await readSome(complaints.raw, capacity: 4096)
                if bytes.isEmpty { break }
                if all.count < 4096 { all += bytes }
            }
            return String(decoding: all, as: UTF8.self).split(separator: "\n").joined(separator: "; ")
        } onCancel: {
            child.signal(SIGKILL)
        }
        let status = try await child.wait()
        if status.isSuccess { return }
        guard let output, !Self.hasRoom(output) else { throw KernelError("\(name) failed (\(status)): \(said)") }
        throw KernelError("no room on the disk for the kernel that \(name) unpacks: free some, e.g. with hull rmi and hull gc")
    }

    private static func hasRoom(_ file: Int32) -> Bool {
        var status = statvfs()
        return fstatvfs(file, &status) != 0 || status.f_bavail * status.f_frsize >= 1 << 20
    }

    // A function of its own: our copy of the pipe's writing end must be gone before its end is waited for.
    private static func start(_ how: Spawn, _ input: (any DescriptorSource)?, _ output: Int32?) throws -> (
        ChildProcess, SharedDescriptor
    ) {
        let pipe = try makePipe()
        let nothing = SharedDescriptor(try openFile("/dev/null", O_RDWR))
        var how = how
        how.descriptors = [(input ?? nothing, 0), (output ?? nothing, 1), (pipe.write, 2)]
        let child = try how.spawn()
        try setNonBlocking(pipe.read.raw)
        return (child, pipe.read)
    }
}
