import Glibc
import LinuxSystem

/// A program of the host that works between two open files: never a shell, never a path of the data.
extension HostProgram {
    /// Runs `name` with `input` as its standard input and `output` as its standard output.
    @Loop
    static func run(
        _ name: String, _ arguments: [String], package: String, input: (any DescriptorSource)? = nil, output: Int32? = nil
    ) async throws {
        guard let path = path(name) else { throw KernelError("\(name) is missing: install the package \(package)") }
        var how = Spawn(path, arguments)
        if let input { how.descriptors.append((input, 0)) }
        if let output { how.descriptors.append((output, 1)) }
        let end = try await how.run(limit: 4096)
        if end.status.isSuccess { return }
        guard let output, !hasRoom(output) else {
            let said = end.complaint.split(separator: "\n").joined(separator: "; ")
            throw KernelError("\(name) failed (\(end.status)): \(said)")
        }
        throw KernelError("no room on the disk for the kernel that \(name) unpacks: free some, e.g. with hull rmi and hull gc")
    }

    private static func hasRoom(_ file: Int32) -> Bool {
        var status = statvfs()
        return fstatvfs(file, &status) != 0 || status.f_bavail * status.f_frsize >= 1 << 20
    }
}
