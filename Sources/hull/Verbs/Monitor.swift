import ArgumentParser
import Glibc
import LinuxSystem
import Sandboxes

/// The owner of one sandbox. Hull starts it itself; it expects its first connection as descriptor 3.
struct Monitor: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "monitor",
        abstract: "The owner of one sandbox; started by run and start.", shouldDisplay: false)

    @Argument var id: String

    mutating func run() throws {
        var status = stat()
        guard getpid() == 1, fstat(3, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else {
            throw SandboxError("hull monitor is started by hull itself: use hull run")
        }
        try setCloseOnExec(3, true)
        let id = id
        let roots = Globals.roots
        let code = Loop.run {
            await SandboxMonitor(id: id, roots: roots, drivers: Drivers.all).run(
                first: SharedDescriptor(owning: 3))
        }
        Glibc.exit(code)
    }
}
