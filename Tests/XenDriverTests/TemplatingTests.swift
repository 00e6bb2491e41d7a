import Glibc
import LinuxSystem
import Machines
import Testing

@testable import XenDriver

/// What domains must have in common to be made of one that was saved.
@Suite struct TemplatingTests {
    private let folder: String
    private let templating = XenTemplating(possible: [.pv, .pvh, .hvm])

    init() throws {
        var name = Array("/tmp/hull-shape-XXXXXX".utf8CString)
        folder = try #require(mkdtemp(&name).map { String(cString: $0) })
        for (file, bytes) in [("kernel", 1), ("initramfs", 2), ("root", 3), ("rw", 4), ("other", 4), ("modules", 5)] {
            try replaceFile("\(folder)/\(file)", [UInt8](repeating: 7, count: bytes))
        }
    }

    private func spec(_ change: (inout MachineSpec) -> Void = { _ in }) -> MachineSpec {
        ConfigurationTests.spec { spec in
            spec.kind = .pv
            spec.kernel = "\(folder)/kernel"
            spec.initramfs = "\(folder)/initramfs"
            spec.disks = [
                Disk(name: "root", path: "\(folder)/root", readOnly: true),
                Disk(name: "rw", path: "\(folder)/rw", readOnly: false, isFresh: true),
                Disk(name: "modules", path: "\(folder)/modules", readOnly: true, isFixed: true),
            ]
            spec.nics = [NIC(mac: "02:42:0a:d5:00:02", mtu: 1500, end: .interface { _ in })]
            change(&spec)
        }
    }

    @Test("The words of a shape")
    func words() throws {
        defer { try? removeTree(folder) }  // a folder of the test's own
        let identity = { (name: String) in "\(folder)/\(name) \(try FileIdentity("\(folder)/\(name)").text)" }
        #expect(
            try templating.shape(of: spec()) == [
                "xen \(Toolstack.version)", "type pv", "memory 256", "processors 1", "kernel \(try identity("kernel"))",
                "initramfs \(try identity("initramfs"))",
                "arguments [\"console=hvc0\", \"quiet\", \"panic=-1\", \"xen_legacy_crash\", \"cryptomgr.notests=1\", \"random.trust_cpu=on\"]",
                "disk root true 3", "disk rw false 4 fresh", "disk modules true \(try identity("modules"))", "nic 1500",
            ])
    }

    @Test("What is a sandbox's own is of no shape, and all else is")
    func same() throws {
        defer { try? removeTree(folder) }  // a folder of the test's own
        let words = try templating.shape(of: spec())
        let own = spec {
            $0.id = String(repeating: "ab", count: 32)
            $0.consoleLog = "/another"
            $0.disks[1].path = "\(folder)/other"
            $0.nics[0].mac = "0a:00:00:00:00:00"
        }
        #expect(try templating.shape(of: own) == words)
        let others: [(inout MachineSpec) -> Void] = [
            { $0.kind = .pvh }, { $0.memoryBytes += 1 << 20 }, { $0.vcpus = 2 }, { $0.kernelArguments = ["a=b"] },
            { $0.disks[1].isFresh = false }, { $0.disks[2].path = "\(folder)/other" }, { $0.disks.removeLast() },
            { $0.nics = [] },
            { $0.nics[0].mtu = 9000 }, { $0.share = Share(tag: "hull", entries: []) },
        ]
        for other in others {
            #expect(try templating.shape(of: spec(other)) != words)
        }
        #expect(throws: MachineError.self) {
            try templating.shape(
                of: spec {
                    $0.kind = .hvm
                    $0.stubdomain = .init(kernel: "/k", ramdisk: "/r", memoryBytes: 1 << 28)
                })
        }
    }

    @Test("Nobody's domain goes without memory for a template")
    func room() throws {
        try XenTemplating.check(free: nil, megabytes: 1024)
        try XenTemplating.check(free: 2080, megabytes: 1024)
        let error = #expect(throws: MachineError.self) { () throws in try XenTemplating.check(free: 2079, megabytes: 1024) }
        #expect("\(error!)".contains("Xen has 2079 MiB of memory free"))
    }

    @Test("A guest keeps what it needs")
    func memory() {
        #expect(DomainMemory.least(of: 64 << 20) == 64 << 20)
        #expect(DomainMemory.least(of: 1 << 30) == 128 << 20)
        #expect(DomainMemory.least(of: 16 << 30) == 608 << 20)
        #expect(DomainMemory.whole(DomainMemory.facts(whole: 40_960)) == 40_960)
        #expect(DomainMemory.facts(whole: nil).isEmpty)
        #expect(DomainMemory.whole(["pages": "many"]) == nil)
    }
}
