import OCISpec
import Testing

@Suite("References")
struct ReferenceTests {
    static let hex = String(repeating: "ab", count: 32)

    @Test(
        "are read as Docker reads them",
        arguments: [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("user/app:v1.2_3-x", "docker.io/user/app:v1.2_3-x", "user/app:v1.2_3-x"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
            ("registry.example/a/b/c", "registry.example/a/b/c:latest", "registry.example/a/b/c:latest"),
            ("example:5000", "docker.io/library/example:5000", "example:5000"),
            ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest", "a__b/c--d.e_f:latest"),
            ("debian@sha256:\(hex)", "docker.io/library/debian@sha256:\(hex)", "debian@sha256:\(hex)"),
            ("debian:12@sha256:\(hex)", "docker.io/library/debian:12@sha256:\(hex)", "debian:12@sha256:\(hex)"),
        ])
    func good(text: String, canonical: String, familiar: String) throws {
        let reference = try Reference(text)
        #expect(reference.description == canonical)
        #expect(reference.familiar == familiar)
        // Both forms lead back to the same.
        #expect(try Reference(canonical) == reference)
        #expect(try Reference(familiar) == reference)
    }

    @Test(
        "that are none are refused, with a reason",
        arguments: [
            "", ":", "/", "a/", "/a", "a//b", "Debian", "user/App", "debian:", "debian:.x", "debian:-x", "debian:a b", "de bian",
            "-debian",
            "debian-", "a..b", "a___b", "a._b", "debian@", "debian@sha256:ab", "debian@md5:\(hex)",
            "debian@sha256:\(hex)@sha256:\(hex)",
            "host:port/app", "host:99999/app", "-bad.host/app", "bad-.host/app", "a.b..c/app", "[::1/app", "\u{0}", "déb",
            "a:b:c",
            "debian:\(String(repeating: "t", count: 129))", String(repeating: "n", count: 300), "../etc", "docker.io/", "$(id)/x",
            "a\nb",
        ])
    func bad(text: String) {
        let error = #expect(throws: InvalidReference.self) { try Reference(text) }
        #expect(error?.reason.isEmpty == false)
    }

    @Test("know the loopback, where plain HTTP is allowed, and nothing that only looks like it")
    func loopback() throws {
        for name in ["localhost/x", "localhost:5000/x", "127.0.0.1:5000/x", "127.9.9.9/x", "[::1]:5000/x"] {
            #expect(try Reference(name).isLoopback, "\(name)")
        }
        for name in ["x", "example.org/x", "127.0.0.1.example.org/x", "128.0.0.1/x", "localhost.example/x", "[fe80::1]/x"] {
            #expect(try !Reference(name).isLoopback, "\(name)")
        }
    }

    @Test("ask a registry by digest where there is one")
    func wire() throws {
        #expect(try Reference("debian:12").wire == "docker.io/library/debian:12")
        #expect(try Reference("debian:12@sha256:\(Self.hex)").wire == "docker.io/library/debian@sha256:\(Self.hex)")
    }
}
