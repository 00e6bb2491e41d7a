import CLinux
import CSeccomp
import Glibc
import LinuxSystem
import MachineProcesses
import Machines

/// Where a machine stands by that makes copies of itself (docs/adr/031): a folder with a socket, at which `hull-awake.so` listens in its QEMU,
/// and a note of what QEMU's descriptors are.
struct AwakePlace {
    let folder: String
    var socket: String { "\(folder)/socket" }
    private var note: String { "\(folder)/qemu.json" }

    /// The library beside the program, which QEMU is started with.
    static var library: String { Companion.path("hull-awake.so") }
    /// Where it is in QEMU's root.
    static let libraryInside = "/hull-awake.so"

    /// What a descriptor of QEMU's is, as the note names it.
    enum Role: Hashable {
        case control, agent, console
        /// The connection to the share's server.
        case share
        /// The guest's memory, and that which may come later, where they are files that others see too; else the file below it.
        case memory, later, below
        /// What the saved machine's devices were read from.
        case state
        case input
        /// Where signals are read from, as the reader's.
        case signals
        case disk(Int)
        case tap(Int)
        var name: String {
            switch self {
            case .control: "control"
            case .agent: "agent"
            case .console: "console"
            case .share: "share"
            case .memory: "memory"
            case .later: "later"
            case .below: "below"
            case .state: "state"
            case .input: "input"
            case .signals: "signals"
            case .disk(let index): "disk\(index)"
            case .tap(let index): "tap\(index)"
            }
        }
    }

    /// Notes the numbers that QEMU, process `pid`, has its descriptors under. Those of `files` are found by what they are of, because QEMU
    /// opens them itself; `own` are the library's, which a copy closes. Throws where it has anything else that its copies would share: an epoll
    /// instance, an io_uring, a timer, a file or a mapping of another's.
    func publish(
        _ known: [Role: Int32], files: [Role: SharedDescriptor], own: [Int32], pid: Int32, version: JSON
    ) throws {
        var numbers = known.mapValues { [$0] }
        numbers[.input] = [0]
        let open = try listDirectory("/proc/\(pid)/fd").compactMap { Int32($0) }.sorted()
        numbers[.signals] = open.filter { readLink("/proc/\(pid)/fd/\($0)") == "anon_inode:[signalfd]" }
        let masks = try Set((numbers[.signals] ?? []).map { try Self.signals(of: "/proc/\(pid)/fdinfo/\($0)") })
        guard masks.count <= 1 else { throw MachineError(.unsupported, "a QEMU with two kinds of signals cannot be copied") }
        for (role, file) in files {
            var wanted = stat()
            try checked("look at", "a file of QEMU's") { fstat(file.raw, &wanted) }
            numbers[role] = open.filter {
                var status = stat()
                return stat("/proc/\(pid)/fd/\($0)", &status) == 0 && status.st_dev == wanted.st_dev
                    && status.st_ino == wanted.st_ino
            }
        }
        let replaced = Set(numbers.values.joined() + own + [1, 2])
        for number in open where !replaced.contains(number) {
            let target = readLink("/proc/\(pid)/fd/\(number)") ?? "what cannot be read"
            guard target == "anon_inode:[eventfd]" else {
                throw MachineError(.unsupported, "a QEMU that has \(target) open cannot be copied")
            }
        }
        let shared = try files.filter { [.memory, .later].contains($0.key) }.map { try Self.inode($0.value) }
        for line in try readText("/proc/\(pid)/maps").split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count >= 5, words[1].hasSuffix("s") else { continue }
            guard let inode = UInt64(words[4]), shared.contains(inode) else {
                throw MachineError(.unsupported, "a QEMU that shares memory (\(words.last ?? "")) cannot be copied")
            }
        }
        let targets = numbers.map { ($0.key.name, JSON.array($0.value.map { .integer(Int64($0)) })) }
        let text = JSON.object([
            "version": version, "numbers": .object(.init(uniqueKeysWithValues: targets)),
            "signals": .string(masks.first ?? "0"),
        ]).encoded
        try replaceFile(note, Array(text.utf8))
    }

    private static func inode(_ file: SharedDescriptor) throws -> UInt64 { try FileIdentity(file, "a file of QEMU's").inode }

    /// An empty file in memory, which goes with the last that has it open.
    static func makeMemory(of bytes: UInt64) throws -> SharedDescriptor {
        let file = try makeMemoryFile(memoryName)
        try checked("set the length of", GuestMemory.name) { ftruncate(file.raw, Int(bytes)) }
        return file
    }

    /// Keeps one copy of `memory`, which does not change any more, for the next copy of the machine to have at once. Until it is cancelled, or
    /// more than an eighth of the memory that the host has left would be needed for another: nobody would be blamed for it.
    @Loop func keepSpare(of memory: SharedDescriptor, bytes: UInt64) async throws {
        guard let process = readLink("/proc/self") else { return }
        let watch = try FolderWatch(folder)
        var status = stat()
        try checked("look at", GuestMemory.name) { fstat(memory.raw, &status) }
        for number in 0... {
            guard try Self.availableMemory() / 8 >= UInt64(status.st_blocks) * 512 else { return }
            let spare = try Self.makeMemory(of: bytes)
            try copyData(from: memory, 0..<Int(bytes), to: spare, GuestMemory.name)
            let note = spareNote(number)
            try replaceFile(note, Array("\(process)/fd/\(spare.raw) \(Self.inode(spare))".utf8))
            while exists(note) { try await watch.next(atMost: .seconds(3600)) }
            withExtendedLifetime(spare) {}
            // Who took it has use for the processors now.
            try await sleep(for: .milliseconds(500))
        }
    }

    /// Bytes (proc_meminfo(5)).
    private static func availableMemory() throws -> UInt64 {
        let line = try readText("/proc/meminfo").split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        return (line?.split(separator: " ").dropFirst().first).flatMap { UInt64($0) }.map { $0 << 10 } ?? 0
    }

    private func spareNote(_ number: Int) -> String { "\(folder)/spare-\(number)" }

    /// Takes the copy of the memory that was made for whoever comes next; nil where there is none just now.
    func takeSpare(of bytes: UInt64) -> SharedDescriptor? {
        // A folder that is gone has none.
        for name in (try? listDirectory(folder)) ?? [] {
            guard name.hasPrefix("spare-"), let number = Int(name.dropFirst(6)), let file = Self.noted(spareNote(number), bytes),
                unlink(spareNote(number)) == 0
            else { continue }
            return file
        }
        return nil
    }

    /// Opens the memory that a note is of; nil where that is not what was noted, because its keeper has ended.
    private static func noted(_ note: String, _ bytes: UInt64) -> SharedDescriptor? {
        do {
            let words = try readText(note).split(separator: " ")
            // Looked at before it is opened: the number of a process that has ended is another's some day.
            guard words.count == 2, readLink("/proc/\(words[0])")?.hasPrefix("/memfd:\(memoryName)") == true else { return nil }
            let file = SharedDescriptor(try openFile("/proc/\(words[0])", O_RDWR))
            let identity = try FileIdentity(file, note)
            return "\(identity.inode)" == words[1] && identity.size == bytes ? file : nil
        } catch { return nil }
    }

    private static let memoryName = "hull-memory"

    /// The signals that a signalfd is for, as the kernel shows them: bits in hexadecimal.
    private static func signals(of path: String) throws -> String {
        try readText(path).split(separator: "\n").first { $0.hasPrefix("sigmask:") }.map {
            String($0.dropFirst(8).drop(while: \.isWhitespace))
        } ?? "0"
    }

    /// A new one for the same.
    private static func signalfd(_ mask: String) throws -> SharedDescriptor {
        var set = sigset_t()
        sigemptyset(&set)
        let bits = UInt64(mask, radix: 16) ?? 0
        for signal in 1...64 as ClosedRange<Int32> where bits >> UInt64(signal - 1) & 1 == 1 { sigaddset(&set, signal) }
        let made = CLinux.signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        return SharedDescriptor(owning: try checked("make a signalfd") { made })
    }

    /// A copy of the machine, shown as `name`, in `root`, in `cgroups`, in ours where those are in none, and with `given` in the place of what it has: QEMU as a process,
    /// and QEMU's version as it said it. `takesMemory`: what it is given for memory is to be filled, and counted in its cgroups. Takes some milliseconds, in which the loop stands still. Throws where nobody listens (any more).
    @Loop func copy(
        _ given: [Role: SharedDescriptor], output: SharedDescriptor, name: String, in root: ConfinedRoot, user: UInt32,
        cgroups: [SharedDescriptor], takesMemory: Bool
    ) throws -> (process: ChildProcess, version: JSON) {
        let known = try JSON(parsing: try readFile(note, limit: 1 << 16))
        var passed =
            try ["pid", "mnt"].map { SharedDescriptor(try openFile("/proc/self/ns/\($0)", O_RDONLY)) } + [output, output]
        var targets: [Int32] = [1, 2]
        var given = given
        let nothing = SharedDescriptor(try openFile("/dev/null", O_RDWR))
        (given[.input], given[.state]) = (nothing, nothing)
        given[.signals] = try Self.signalfd(known["signals"]?.text ?? "0")
        for (role, descriptor) in given {
            guard case .array(let numbers)? = known["numbers"]?[role.name], !numbers.isEmpty else {
                // Not every QEMU has these open.
                if role == .state || role == .signals { continue }
                throw MachineError(.refused, "the machine that stands by has no \(role.name)")
            }
            for number in numbers.compactMap(\.count) {
                targets.append(Int32(truncatingIfNeeded: number))
                passed.append(descriptor)
            }
        }
        let request = try Self.request(targets, root: root.path, name: name, user: user)
        let connection = try UnixSocket.connect(socket)
        try setBlocking(connection.raw, forAtMost: 2)
        let raw = passed.map(\.raw)
        let sent = request.withUnsafeBytes {
            hull_send_descriptors(connection.raw, $0.baseAddress!, $0.count, raw, raw.count, Int32(MSG_NOSIGNAL))
        }
        guard sent == request.count else {
            throw SystemError("ask for a copy of the machine that stands by", code: sent < 0 ? Int32(-sent) : EIO)
        }
        var process: ChildProcess?
        var isConfined = false
        var born: (identity: ProcessIdentity, cgroups: Set<Substring>)?
        do {
            while !isConfined {
                let (kind, step, error, descriptor) = try Self.answer(connection)
                switch (kind, descriptor) {
                case (1, let descriptor?):
                    let made = try ChildProcess(adopted: descriptor)
                    process = made
                    // First: a cpuset of whoever woke it bounds what it may run on.
                    if let identity = made.identity {
                        let there = try Cgroup.memberships(of: identity)
                        born = (identity, there)
                        try made.join(Cgroup.entrancesOfOurs(without: there, nor: cgroups))
                    }
                    try made.takeAfterUs()
                    // Before it begins only where it takes memory at once: to join costs a grace period of the kernel's.
                    if takesMemory { try made.join(cgroups) }
                    try checked("let a copy go on", "from its first step") { send(connection.raw, "+", 1, Int32(MSG_NOSIGNAL)) }
                    if !takesMemory { try made.join(cgroups) }
                case (2, _): isConfined = true
                default: throw SystemError("confine a copy of the machine that stands by (step \(step))", code: error)
                }
            }
            // What it was born in is its keeper's, and ends with it. (Of a root nobody is bound.)
            if let (identity, cgroups) = born {
                let left = try cgroups.intersection(Cgroup.memberships(of: identity)).subtracting(Cgroup.memberships())
                if let one = left.first(where: { !$0.hasSuffix(":/") }) {
                    throw MachineError(.unsupported, "a copy would stay in its keeper's cgroup (\(one))")
                }
            }
        } catch {
            if let process {
                process.signal(SIGKILL)
                // It was killed: nothing but its being reaped is awaited.
                Task { @Loop in _ = try? await process.wait() }
            }
            throw error
        }
        guard let process else { throw SystemError("hold on to a copy of the machine that stands by", code: EIO) }
        return (process, known["version"] ?? .null)
    }

    /// As `struct request` in awake/hull-awake.c.
    static func request(_ targets: [Int32], root: String, name: String, user: UInt32) throws -> [UInt8] {
        guard targets.count <= 62, root.utf8.count < 512, name.utf8.count < 128 else {
            throw MachineError(
                .unsupported, "a copy of a machine that stands by has room for 62 descriptors, and a path of 511 bytes")
        }
        var bytes: [UInt8] = []
        let padded = targets + [Int32](repeating: 0, count: 64 - targets.count)
        for word in [1, UInt32(targets.count), user] + padded.map({ UInt32(bitPattern: $0) }) {
            withUnsafeBytes(of: word.littleEndian) { bytes += $0 }
        }
        for (text, room) in [(root, 512), (name, 128)] {
            bytes += Array(text.utf8) + [UInt8](repeating: 0, count: room - text.utf8.count)
        }
        return bytes
    }

    /// As `struct answer` there.
    private static func answer(_ connection: SharedDescriptor) throws -> (
        kind: Int32, step: Int32, error: Int32, descriptor: SharedDescriptor?
    ) {
        var words: (Int32, Int32, Int32) = (0, 0, 0)
        var descriptor: Int32 = -1
        var count = 1
        let got = withUnsafeMutableBytes(of: &words) {
            hull_receive_descriptors(connection.raw, $0.baseAddress!, $0.count, &descriptor, &count, 0)
        }
        guard got == 12 else {
            throw SystemError("hear of a copy of the machine that stands by", code: got < 0 ? Int32(-got) : EPIPE)
        }
        return (words.0, words.1, words.2, count == 1 ? SharedDescriptor(owning: descriptor) : nil)
    }

    /// What the copies may not call, as QEMU's own `-sandbox` refuses it, and what no VMM needs: a filter as the kernel takes it. A call of
    /// these ends the copy.
    static func filter() throws -> SharedDescriptor {
        guard let context = seccomp_init(0x7fff_0000 /* SCMP_ACT_ALLOW */) else {
            throw MachineError(.startFailed, "libseccomp cannot make a filter")
        }
        defer { seccomp_release(context) }
        func refuse(
            _ call: String, _ action: UInt32 = 0x8000_0000 /* SCMP_ACT_KILL_PROCESS */, _ conditions: [scmp_arg_cmp] = []
        ) throws {
            let number = seccomp_syscall_resolve_name(call)
            if number == -1 /* __NR_SCMP_ERROR: not known to this libseccomp */ { return }
            let failure = conditions.withUnsafeBufferPointer {
                seccomp_rule_add_array(context, action, number, UInt32($0.count), $0.baseAddress)
            }
            if failure != 0 { throw SystemError("add a rule for \(call)", code: -failure) }
        }
        for call in refused { try refuse(call) }
        // Threads are QEMU's own; the C library asks clone(2) when it may not have clone3.
        let kill: UInt32 = 0x8000_0000
        // VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID.
        for bit in [8, 9, 10, 11, 16, 18, 19, 20, 21] as [UInt64] {
            try refuse("clone", kill, [scmp_arg_cmp(arg: 0, op: SCMP_CMP_MASKED_EQ, datum_a: 1 << bit, datum_b: 0)])
        }
        // NEWTIME, PIDFD, PTRACE, VFORK, PARENT, NEWNS, UNTRACED, NEWCGROUP to NEWNET, IO.
        for bit in [7, 12, 13, 14, 15, 17, 23] + Array(25...31) as [UInt64] {
            try refuse("clone", kill, [scmp_arg_cmp(arg: 0, op: SCMP_CMP_MASKED_EQ, datum_a: 1 << bit, datum_b: 1 << bit)])
        }
        // More of the processor: libraries ask, and do without.
        for call in ["sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "setpriority", "ioprio_set"] {
            try refuse(call, 0x0005_0000 | UInt32(EPERM))
        }
        try refuse("clone3", 0x0005_0000 | UInt32(ENOSYS))
        seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2)
        let file = try makeMemoryFile("hull-filter")
        let failure = seccomp_export_bpf(context, file.raw)
        if failure != 0 { throw SystemError("compile a filter", code: -failure) }
        return file
    }

    private static let refused = [
        // obsolete, and what changes the host
        "_sysctl", "acct", "add_key", "afs_syscall", "bdflush", "bpf", "create_module", "delete_module", "finit_module", "ftime",
        "get_kernel_syms", "getpmsg", "gtty", "init_module", "ioperm", "iopl", "kexec_file_load", "kexec_load", "keyctl", "lock",
        "mpx",
        "nfsservctl", "open_by_handle_at", "perf_event_open", "prof", "profil", "ptrace", "putpmsg", "query_module", "quotactl",
        "readdir",
        "reboot", "request_key", "security", "sgetmask", "ssetmask", "stty", "swapoff", "swapon", "sysfs", "syslog", "tuxcall",
        "ulimit",
        "uselib", "userfaultfd", "ustat", "vserver", "process_vm_readv", "process_vm_writev",
        // other rights
        "setfsgid", "setfsuid", "setgid", "setgroups", "setpgid", "setregid", "setresgid", "setresuid", "setreuid", "setsid",
        "setuid",
        // other processes and programs, other namespaces and mounts
        "execve", "execveat", "fork", "vfork", "setns", "unshare", "chroot", "pivot_root", "mount", "umount2", "move_mount",
        "open_tree",
        "fsopen", "fsmount", "mount_setattr",
    ]

    private func setBlocking(_ socket: Int32, forAtMost seconds: Int) throws {
        let flags = try checked("look at", "a socket") { fcntl(socket, F_GETFL) }
        try checked("set up", "a socket") { fcntl(socket, F_SETFL, flags & ~O_NONBLOCK) }
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            try checked("set up", "a socket") { setsockopt(socket, SOL_SOCKET, option, &limit, size) }
        }
    }
}
