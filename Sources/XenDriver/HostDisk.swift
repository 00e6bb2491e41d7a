import CLinux
import Glibc
import LinuxSystem
import Machines

/// A disk's block device on the host: a loop device over the file, which goes with its last user.
struct HostDisk {
    let path: String
    /// `major:minor` as the block backend reads it.
    let number: String
    /// What keeps the loop device until the backend has it.
    private let device: SharedDescriptor

    init(_ disk: Disk) throws {
        do {
            let file = SharedDescriptor(try openFile(disk.path, disk.readOnly ? O_RDONLY : O_RDWR))
            var status = stat()
            try checked("look at", disk.path) { fstat(file.raw, &status) }
            if status.st_mode & S_IFMT == S_IFBLK {
                path = disk.path
                device = file
            } else {
                var number: UInt32 = 0
                let loop = hull_loop_attach(file.raw, disk.readOnly ? 1 : 0, &number)
                guard loop >= 0 else { throw SystemError("attach a loop device to", disk.path, code: -loop) }
                device = SharedDescriptor(owning: loop)
                path = "/dev/loop\(number)"
                try checked("look at", path) { fstat(loop, &status) }
            }
            let numbers = [hull_device_major(UInt64(status.st_rdev)), hull_device_minor(UInt64(status.st_rdev))]
            number = numbers.map { String($0, radix: 16) }.joined(separator: ":")
        } catch {
            throw MachineError(.startFailed, "the disk '\(disk.name)' cannot be given to a domain", cause: error)
        }
    }

    /// The number by which the backend knows the guest's disk `xvda`, `xvdb`, …: major 202, 16 minors each.
    static func virtualNumber(_ index: Int) -> Int { 202 << 8 | index << 4 }
}
