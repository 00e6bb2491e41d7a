import LinuxSystem
import Testing

@testable import Sandboxes

/// What counts as a change that hooks made to what a machine was started from.
@Suite struct HostViewTests {
    private static func table(_ paths: [String]) -> MountTable {
        MountTable(paths.enumerated().map { "\($0 + 1) 0 0:1 / \($1) rw - tmpfs tmpfs rw" }.joined(separator: "\n"))
    }

    private static func around(_ mounts: [String]) -> Set<String> {
        let found = HostView.mounts(table(mounts), around: ["/bundle/rootfs", "/data"], own: "/run/hull/one")
        return Set(found.map(\.path))
    }

    @Test func mountsOnAboveAndBelow() {
        #expect(Self.around(["/"]) == ["/"])
        let all = ["/bundle", "/bundle/rootfs", "/bundle/rootfs/a"]
        #expect(Self.around(all) == Set(all))
        #expect(Self.around(["/data/below", "/database", "/bundle/rootfs2", "/bundle/other"]) == ["/data/below"])
    }

    @Test func theMachinesOwnMountsAreNone() {
        let mounts = ["/data", "/run/hull/one/machine/vmm-root", "/run/hull/one"]
        let found = HostView.mounts(Self.table(mounts), around: ["/"], own: "/run/hull/one")
        #expect(Set(found.map(\.path)) == ["/data"])
    }

    @Test func oneMountedOverAnotherIsAChange() {
        let before = HostView.mounts(Self.table(["/data"]), around: ["/data"], own: "/run")
        let after = HostView.mounts(Self.table(["/data", "/data"]), around: ["/data"], own: "/run")
        #expect(before != after)
    }
}
