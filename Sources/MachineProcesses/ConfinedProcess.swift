import CLinux
import Glibc
package import LinuxSystem
package import Machines

/// A program of the machine, started in its root with nothing of the host's, and the last of what it said.
@Loop
package final class ConfinedProcess {
    /// How much of its standard error is kept.
    package static let complaintLimit = 8192

    package let role: String
    package let child: ChildProcess
    package let identity: ProcessIdentity
    private let output: SharedDescriptor
    private var said: [UInt8] = []

    /// Starts it. `descriptors` come from 3 on, in order; 0 is /dev/null, 1 and 2 are a pipe to us. `isApart`: it sees no processes but its own.
    package convenience init(
        role: String, _ how: Spawn, root: ConfinedRoot, confinement: Confinement, descriptors: [SharedDescriptor],
        isApart: Bool = true
    ) throws {
        try self.init(role: role) { output in
            let nothing = SharedDescriptor(try openFile("/dev/null", O_RDONLY))
            var how = how
            how.descriptors = [(nothing, 0), (output, 1), (output, 2)]
            for (index, descriptor) in descriptors.enumerated() { how.descriptors.append((descriptor, Int32(3 + index))) }
            how.namespaces =
                CLONE_NEWNS | (isApart ? CLONE_NEWPID : 0) | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
                | 0x0200_0000 /* CLONE_NEWCGROUP */
            how.root = root.path
            how.directory = "/"
            how.noNewPrivileges = true
            how.newSession = true
            how.label = confinement.labels?.process
            how.deathSignal = SIGKILL
            how.limits += [(Int32(RLIMIT_CORE.rawValue), 0, 0), (6 /* RLIMIT_NPROC */, 1024, 1024)]
            let child = try how.spawn()
            do { try child.join(confinement.cgroups) } catch {
                child.signal(SIGKILL)
                throw error
            }
            return child
        }
    }

    /// Takes one that `start` makes and confines, whose output goes into the pipe that it is given.
    package init(role: String, start: (_ output: SharedDescriptor) throws -> ChildProcess) throws {
        self.role = role
        let pipe = try makePipe()
        child = try start(pipe.write)
        guard let identity = child.identity else {
            throw MachineError(.startFailed, "\(role) ended before it could be looked at")
        }
        self.identity = identity
        output = pipe.read
        try setNonBlocking(output.raw)
    }

    /// Collects what it says until it says no more; run it as long as the process lives.
    package func listen() async {
        // A pipe that cannot be read any more has nothing more to say.
        while let bytes = try? await readSome(output.raw, capacity: 4096), !bytes.isEmpty {
            said += bytes
            if said.count > Self.complaintLimit { said.removeFirst(said.count - Self.complaintLimit) }
        }
    }

    /// The last of its standard error, trimmed.
    package var complaints: String {
        var text = Substring(String(decoding: said, as: UTF8.self))
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}
