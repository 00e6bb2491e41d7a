import AgentProtocol
import Testing

/// Every message, with every field away from its default, survives writing and reading.
@Suite struct MessageTests {
    private func roundTrip<M: WireMessage & Equatable>(_ message: M, _ location: SourceLocation = #_sourceLocation) throws {
        let bytes = message.encoded()
        #expect(try M(decoding: bytes) == message, sourceLocation: location)
        #expect(try M(decoding: M().encoded()) == M(), sourceLocation: location)
        // A newer end's unknown fields are skipped.
        #expect(try M(decoding: bytes + [0xFE, 0x3E, 42] + [0xFF, 0x3E, 3, 1, 2, 3]) == message, sourceLocation: location)
        // Cut anywhere, it is refused or a shorter message, and never a crash.
        for length in bytes.indices { _ = try? M(decoding: Array(bytes[..<length])) }
        for index in bytes.indices {
            for flip: UInt8 in [1, 0x80, 0xFF] {
                var wrong = bytes
                wrong[index] ^= flip
                _ = try? M(decoding: wrong)
            }
        }
    }

    @Test func sandbox() throws {
        var interface = InterfaceConfiguration()
        interface.mac = [2, 0, 0, 1, 2, 3]
        interface.name = "eth0"
        interface.mtu = 1450
        interface.addresses = ["10.1.2.3/16", "fd00::3/64"]
        var route = RouteConfiguration()
        route.destination = "10.0.0.0/8"
        route.gateway = "10.1.0.1"
        route.device = "eth0"
        var identity = Identity()
        identity.hostname = "höst"
        identity.machineID = "0123456789abcdef0123456789abcdef"
        identity.entropy = [1, 2, 3]
        identity.realtime = UInt64.max
        identity.interfaces = [interface, interface]
        identity.routes = [route]
        try roundTrip(interface)
        try roundTrip(route)
        try roundTrip(identity)
        var sandbox = SandboxConfiguration()
        sandbox.identity = identity
        sandbox.modules = DiskConfiguration(device: "serial:modules", type: "erofs")
        sandbox.share = "hull"
        sandbox.shareIsRelayed = true
        sandbox.sysctls = [Setting("net.ipv4.ip_forward", "1")]
        try roundTrip(sandbox)
        var state = ProcessState()
        state.process = 7
        state.container = "c"
        state.pid = 99
        state.output = 1 << 40
        state.error = 2
        state.input = 3
        state.ended = 5
        state.isExec = true
        var agent = AgentState()
        agent.version = 1
        agent.kernel = "6.1"
        agent.isConfigured = true
        agent.processes = [state, ProcessState()]
        agent.uptime = 5
        try roundTrip(agent)
        var command = ClockCommand()
        command.step = -5
        command.tick = 9999
        command.frequency = -1 << 20
        try roundTrip(command)
        command.step = Int64.min
        command.frequency = Int64.max
        try roundTrip(command)
        var reading = ClockReading()
        reading.realtime = 1
        reading.raw = UInt64.max
        try roundTrip(reading)
        var shutdown = ShutdownRequest()
        shutdown.mode = .fast
        shutdown.reboot = false
        try roundTrip(shutdown)
        var hello = Hello()
        hello.oldest = 3
        hello.newest = 9
        try roundTrip(hello)
    }

    @Test func container() throws {
        var mount = MountConfiguration()
        mount.destination = "/data"
        mount.kind = .other
        mount.source = "m0"
        mount.type = "nfs"
        mount.flags = 1 << 20
        mount.propagation = 1 << 18
        mount.data = "size=1m"
        mount.copyUp = true
        mount.isFile = true
        try roundTrip(mount)
        var device = DeviceConfiguration()
        device.path = "/dev/fuse"
        device.mode = 0o20666
        device.major = 10
        device.minor = 229
        device.uid = 1
        device.gid = 2
        try roundTrip(device)
        var limits = ContainerLimits()
        limits.memory = 0
        limits.memoryReservation = 1
        limits.swap = UInt64.max
        limits.cpuQuota = 50000
        limits.cpuPeriod = 100_000
        limits.cpuWeight = 100
        limits.pids = 10
        limits.cpus = "0-1"
        limits.unified = [Setting("memory.high", "max")]
        try roundTrip(limits)
        var container = ContainerConfiguration()
        container.id = "c1"
        container.hostname = "h"
        container.domainname = "d"
        container.root.kind = .share
        container.root.lower = DiskConfiguration(device: "/dev/vda", type: "erofs")
        container.root.upper = DiskConfiguration(device: "/dev/vdb", type: "ext4")
        container.root.path = "root"
        container.root.readOnly = true
        container.mounts = [mount]
        container.files = [FileConfiguration(path: "/etc/hosts", content: [0, 255], mode: 0o600)]
        container.maskedPaths = ["/proc/kcore", ""]
        container.readOnlyPaths = ["/proc/sys"]
        container.devices = [device]
        container.sysctls = [Setting("kernel.shmmax", "1")]
        container.limits = limits
        container.privileged = true
        container.rootPropagation = 1
        container.pidNamespaceOf = "a"
        container.ipcNamespaceOf = "b"
        try roundTrip(container)
        var update = UpdateRequest()
        update.container = "c"
        update.limits = limits
        try roundTrip(update)
        try roundTrip(ContainerReference("c"))
        var statistics = ContainerStatistics()
        statistics.memory = 1
        statistics.memoryLimit = UInt64.max
        statistics.oomKills = 3
        statistics.ioWritten = 4
        try roundTrip(statistics)
    }

    @Test func process() throws {
        var process = ProcessConfiguration()
        process.process = 1 << 50
        process.container = "c"
        process.isExec = true
        process.arguments = ["sh", "", "-c"]
        process.environment = ["A=b", "C="]
        process.workingDirectory = "/w"
        process.user = "joe:users"
        process.groups = ["1", "audio"]
        var capabilities = CapabilitySets()
        capabilities.bounding = 1
        capabilities.effective = 2
        capabilities.permitted = 3
        capabilities.inheritable = 4
        capabilities.ambient = 5
        process.capabilities = capabilities
        process.limits = [ResourceLimit(resource: 7, soft: 1, hard: UInt64.max)]
        process.noNewPrivileges = true
        process.seccomp = [6, 0, 0, 0, 0, 0, 255, 127]
        process.seccompFlags = 2
        process.oomScoreAdjust = -500
        process.umask = 0
        process.terminal = true
        process.rows = 24
        process.columns = 80
        process.wantsInput = true
        process.initWrapper = true
        process.credit = 1
        try roundTrip(process)
        process.umask = 0o077
        try roundTrip(process)
        var signal = SignalRequest()
        signal.process = 1
        signal.container = "c"
        signal.signal = 15
        try roundTrip(signal)
        var resize = ResizeRequest()
        resize.process = 1
        resize.rows = 2
        resize.columns = 3
        try roundTrip(resize)
        try roundTrip(ProcessReference(4))
        var started = ProcessStarted()
        started.pid = 5
        try roundTrip(started)
        var entry = ProcessEntry()
        entry.pid = 1
        entry.arguments = ["a", "b"]
        entry.state = "S"
        entry.cpu = 9
        var list = ProcessList()
        list.processes = [entry]
        list.truncated = true
        try roundTrip(list)
        var exit = ProcessExit()
        exit.code = 1
        exit.signal = 9
        exit.outOfMemory = true
        try roundTrip(exit)
        var memory = OutOfMemory()
        memory.container = "c"
        memory.kills = 2
        try roundTrip(memory)
        try roundTrip(LogLine("x"))
        try roundTrip(AgentFailure(.commandNotFound, "no", errno: 2))
    }

    @Test func refusesWhatIsWrong() {
        // A length beyond the end, a number too large for its field, an enumeration's unknown case, a nesting bomb.
        #expect(throws: WireError.truncated) { try Setting(decoding: [3, 5, 65]) }
        #expect(throws: WireError.malformed) { try ResizeRequest(decoding: [4, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F]) }
        #expect(throws: WireError.malformed) { try MountConfiguration(decoding: [4, 99]) }
        #expect(throws: WireError.malformed) { try Setting(decoding: [2, 5]) }
        #expect(throws: WireError.malformed) {
            try Setting(decoding: [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1])
        }
        #expect(throws: WireError.malformed) { try Setting(decoding: [0, 0]) }
    }

    @Test func boundsMemory() {
        // Two bytes an element must not become millions of elements.
        var bomb: [UInt8] = []
        for _ in 0..<70000 { bomb += [9, 0] }
        #expect(throws: WireError.tooManyElements) { try AgentState(decoding: bomb) }
        #expect(throws: WireError.tooManyElements) { try ProcessConfiguration(decoding: bomb, elements: 1000) }
    }

    @Test func futureErrorCodesAreStillFailures() throws {
        #expect(try AgentFailure(decoding: [2, 0xE7, 7, 5, 1, 65]) == AgentFailure(.other, "A"))
    }
}
