import LinuxSystem
import Machines
import Testing

@testable import Sandboxes

@Suite struct SharedTreeTests {
    private let table = MountTable(
        """
        20 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
        21 20 0:5 / /dev rw - devtmpfs devtmpfs rw
        22 21 0:6 / /dev/pts rw - devpts devpts rw
        23 20 0:7 / /proc rw - proc proc rw
        24 23 0:8 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw
        25 20 0:9 / /srv/with\\040space rw - tmpfs none rw
        26 25 0:10 / /srv/with\\040space/deep rw - overlay overlay rw
        27 20 0:11 / /mnt rw - tmpfs none rw
        28 27 0:12 / /mnt/hidden rw - ext4 none rw
        29 27 0:13 / /mnt rw - tmpfs none rw
        30 29 0:14 / /mnt/seen rw - ext4 none rw
        31 20 0:15 / /run/hull/1/machine/share-root rw - tmpfs hull rw
        nonsense
        """)

    @Test func whatIsMountedBelow() {
        #expect(
            table.below("/").map(\.id) == [21, 22, 29, 30, 23, 24, 31, 25, 26])
        #expect(table.below("/srv").map(\.path) == ["/srv/with space", "/srv/with space/deep"])
        #expect(table.below("/srv/with") == [])
        #expect(table.holding("/mnt/x")?.id == 29 && table.holding("/mnt/seen/x")?.id == 30 && table.holding("/etc")?.id == 20)
    }

    @Test func whatIsHiddenHidesNothing() {
        let table = MountTable(
            """
            20 1 254:0 / / rw - ext4 /dev/vda rw
            21 20 0:5 / /a/b rw - tmpfs none rw
            22 20 0:6 / /a rw - tmpfs none rw
            23 22 0:7 / /a/b/c rw - tmpfs none rw
            24 20 0:8 / / rw - overlay over-the-root rw
            25 24 0:9 / /x rw - tmpfs none rw
            """)
        #expect(table.below("/").map(\.id) == [22, 23])
        #expect(table.holding("/a/b")?.id == 22 && table.holding("/a/b/c/d")?.id == 23 && table.holding("/x")?.id == 20)
    }

    @Test func theKernelsOwnIsLeftOut() {
        let tree = SharedTree("/", in: table, own: "/run/hull/1/machine")
        #expect(!tree.isKernels)
        #expect(tree.leftOut == ["/dev/pts", "/proc"])
        #expect(
            tree.submounts
                == [Submount(path: "dev", isKernels: true)]
                + ["mnt", "mnt/seen", "srv/with space", "srv/with space/deep"].map { Submount(path: $0) })
        #expect(SharedTree("/srv/with space", in: table).submounts == [Submount(path: "deep")])
        #expect(SharedTree("/srv/with space", in: table).isMemory && !SharedTree("/srv/with space/file", in: table).isMemory)
    }

    @Test func whatIsAskedForIsShown() {
        let tree = SharedTree("/proc/sys", in: table)
        #expect(tree.isKernels && tree.leftOut == ["/proc/sys/fs/binfmt_misc"])
        #expect(SharedTree("/etc", in: table).leftOut == [])
    }
}
