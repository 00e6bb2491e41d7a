import Foundation
import Glibc
import Testing

extension IntegrationTests.Runtime {
    /// A bundle with a hook of that stage, which has the container's pid in `$pid` and the bundle in `$bundle`.
    private func hook(_ name: String, _ stage: String, _ script: String, in spec: inout [String: Any]) throws {
        let folder = try lab.scratch("bundle-\(name)")
        let path = "\(folder)/\(stage)"
        let text = """
            #!/bin/sh -e
            pid=$(sed 's/.*"pid": *\\([0-9]*\\).*/\\1/')
            bundle=\(folder)
            \(script)

            """
        try text.write(toFile: path, atomically: false, encoding: .utf8)
        chmod(path, 0o755)
        var hooks = spec["hooks"] as? [String: Any] ?? [:]
        hooks[stage] = [["path": path]]
        spec["hooks"] = hooks
    }

    private static func interface(_ name: String, _ address: String) -> String {
        "nsenter -t $pid -n sh -ec 'ip link add \(name) type veth peer name \(name)-peer; ip addr add \(address)/24 dev \(name); ip link set \(name) up'"
    }

    /// The machine starts beside the hooks, and what they bring to the network is led to NICs that it has already; the first has no template.
    @Test func anInterfaceThatAHookBrings() throws {
        let script = "busybox ip -4 -o addr show nine; cat /sys/class/net/nine/mtu; ls /sys/class/net"
        let bundle = try bundle("brought", script) { spec in
            spec["annotations"] = ["run.hull.memory": "333m"]
            #expect(throws: Never.self) { try hook("brought", "prestart", Self.interface("nine", "10.99.0.2"), in: &spec) }
        }
        for _ in 0..<3 {
            let output = try runtime("run", "--bundle", bundle, "brought")
            #expect(
                output.text.contains(" 10.99.0.2/24 ") && output.text.hasSuffix("\n1500\nlo\nnine\n"),
                "\(output.text) \(output.errors)")
        }
    }

    /// A hook that finds nothing to work on any more is not why there is no container: what the machine died of is said.
    @Test func whatTheMachineDiesOfBesideAHook() throws {
        let bundle = try bundle("dying", "true") { spec in
            let script = "for i in $(seq 300); do readlink /proc/$pid/ns/net >/dev/null || exit 1; sleep 0.1; done"
            #expect(throws: Never.self) { try hook("dying", "createRuntime", script, in: &spec) }
        }
        let made = try leaving("create", "--bundle", bundle, "dying", with: ["HULL_QEMU": "/no/such/qemu"])
        #expect(made.code == 1 && made.errors.contains("HULL_QEMU names /no/such/qemu"), "\(made)")
        #expect(try runtime("state", "dying").errors.contains("does not exist"))
    }

    /// Hooks may change what the machine was to be started from: mounts, files that are missing before, more interfaces than it has NICs.
    @Test(arguments: ["mount", "file", "interfaces"]) func whatHooksChange(_ what: String) throws {
        let name = "changed-\(what)"
        let bundle = try bundle(name, "cat /mounted/file /made/file; ls /sys/class/net") { spec in
            #expect(throws: Never.self) {
                switch what {
                case "mount":
                    let script = "mount -t tmpfs hull-test $bundle/rootfs/mounted; echo mounted >$bundle/rootfs/mounted/file"
                    try hook(name, "createContainer", script, in: &spec)
                case "file":
                    var mounts = spec["mounts"] as? [[String: Any]] ?? []
                    mounts.append(["destination": "/made", "source": "made", "type": "bind", "options": ["bind"]])
                    spec["mounts"] = mounts
                    try hook(name, "createRuntime", "mkdir $bundle/made; echo made >$bundle/made/file", in: &spec)
                default:
                    let script = (1...5).map { Self.interface("net\($0)", "10.99.\($0).2") }.joined(separator: "\n")
                    try hook(name, "createRuntime", script, in: &spec)
                }
            }
        }
        _ = try lab.scratch("bundle-\(name)/rootfs/mounted")
        try? FileManager.default.removeItem(atPath: "\(bundle)/made")  // there from the last time
        let output = try runtime("run", "--bundle", bundle, name)
        let wanted = ["mount": "mounted\n", "file": "made\n", "interfaces": "lo\nnet1\nnet2\nnet3\nnet4\nnet5\n"][what]!
        #expect(output.text.contains(wanted), "\(output.text) \(output.errors)")
    }
}
