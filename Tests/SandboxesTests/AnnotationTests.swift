import OCISpec
import Testing

@testable import Sandboxes

/// Which annotations a bundle may have, and how the host says so.
@Suite struct AnnotationTests {
    @Test func tomlOfItsPart() throws {
        let file = try PlainTOML(
            """
            # a comment
            top = 1_000
            [annotations]  # another
            allow = [
                "memory", 'vcpus',  # one more
            ]
            text = "a \\"b\\" \\\\"
            yes = true

            [empty]
            """)
        #expect(file.tables[""] == ["top": .number(1000)])
        #expect(
            file.tables["annotations"] == [
                "allow": .list(["memory", "vcpus"]), "text": .text("a \"b\" \\"), "yes": .truth(true),
            ])
        #expect(file.tables["empty"] == [:])
    }

    @Test(arguments: [
        ("a", 1), ("a = ", 1), ("a = b", 1), ("a = \"x", 1), ("\n[a\n", 2), ("a = 1\na = 2", 2), ("[a]\n[a]", 2), ("a = [1]", 1),
        ("a = [\"x\"", 1), ("a = 1 b", 1), ("a.b = 1", 1), ("[[a]]", 1), ("a = {}", 1), ("a = \"\\u0041\"", 1), ("a = 1.5", 1),
    ])
    func tomlBeyondItsPart(_ text: String, _ line: Int) {
        do {
            _ = try PlainTOML(text)
            Issue.record("\(text) was read")
        } catch { #expect(error.line == line, "\(error)") }
    }

    @Test func withoutAConfigurationOnlySizes() throws {
        let policy = AnnotationPolicy()
        try policy.check(["run.hull.memory": "700m", "run.hull.vcpus": "2", "io.kubernetes.cri.x": "y"])
        for name in ["hypervisor", "machine", "kernel", "kernel-args", "disks"] {
            #expect(throws: SandboxError.self, "\(name)") { try policy.check(["run.hull.\(name)": "x"]) }
        }
        for (name, value) in [("memory", "1k"), ("memory", "lots"), ("vcpus", "0"), ("vcpus", "1e3"), ("wishes", "x")] {
            #expect(throws: SandboxError.self, "\(name)") { try policy.check(["run.hull.\(name)": value]) }
        }
    }

    @Test func aConfigurationSaysWhich() throws {
        let policy = try AnnotationPolicy(
            parsing: """
                [annotations]
                allow = ["memory", "kernel", "disks"]
                memory-limit = "1g"
                kernels = ["/boot/vmlinuz-a"]
                disk-folders = ["/srv/disks"]
                """)
        try policy.check(["run.hull.memory": "1g", "run.hull.kernel": "/boot/vmlinuz-a"])
        try policy.check(["run.hull.disks": "/srv/disks/a.img:/data:1g;/srv/disks/x/b:/b"])
        for (name, value) in [
            ("memory", "1025m"), ("vcpus", "1"), ("kernel", "/boot/vmlinuz-b"), ("disks", "/etc/x:/x"),
            ("disks", "/srv/disks/../x:/x"), ("disks", "/srv/disksx/a:/x"), ("disks", "/srv/disks:/x"),
            ("disks", "/srv/disks/a"), ("disks", "/srv/disks/a:/:1g"),
            ("disks", "/srv/disks/a:/a:1k"), ("disks", "/srv/disks/a:/a:1g:vfat"),
        ] {
            #expect(throws: SandboxError.self, "\(name) \(value)") { try policy.check(["run.hull.\(name)": value]) }
        }
    }

    @Test(arguments: [
        "allow = [\"memory\"]", "[other]", "[annotations]\nallow = \"memory\"", "[annotations]\nallow = [\"wishes\"]",
        "[annotations]\nmemory-limit = \"x\"", "[annotations]\nvcpus-limit = 0", "[annotations]\nkernels = [\"boot/x\"]",
        "[annotations]\ndisk-folders = [\"/a/../b\"]", "[annotations]\nforbid = true",
    ])
    func whatItDoesNotKnowStopsIt(_ text: String) { #expect(throws: (any Error).self) { try AnnotationPolicy(parsing: text) } }
}
