import OCISpec
import Testing

@testable import Images

@Suite("What skopeo is told and says")
struct SkopeoTests {
    private static func source(_ text: String) throws -> ImageSource { try ImageSource(text, relativeTo: "/here") }

    @Test(
        "names of sources",
        arguments: [
            ("debian", "docker://docker.io/library/debian:latest"), ("docker://example.org/a:1", "docker://example.org/a:1"),
            ("oci:dir:tag", "oci:/here/dir:tag"), ("oci:/a/b", "oci:/a/b"), ("oci:/a:b/c", "oci:/a:b/c"),
            ("oci-archive:f.tar", "oci-archive:/here/f.tar"),
            ("docker-archive:/f.tar:web/app:1", "docker-archive:/f.tar:web/app:1"),
            ("docker-archive:f.tar", "docker-archive:/here/f.tar"),
        ])
    func names(text: String, name: String) throws {
        #expect(Skopeo.name(try Self.source(text)) == name)
    }

    @Test("plain HTTP only on the loopback")
    func insecure() throws {
        let platform = Platform(architecture: "amd64")
        let local = Skopeo.copy(try Self.source("localhost:5000/a"), to: "/l", platform: platform, work: "/w")
        #expect(local.contains("--src-tls-verify=false"))
        let remote = Skopeo.copy(try Self.source("example.org/a"), to: "/l", platform: platform, work: "/w")
        #expect(!remote.contains { $0.contains("tls-verify") })
        #expect(remote.suffix(2) == ["docker://example.org/a:latest", "oci:/l:image"])
        #expect(remote.starts(with: ["--tmpdir", "/w", "--override-os", "linux", "--override-arch", "amd64"]))
    }

    @Test(
        "complaints become codes",
        arguments: [
            ("reading manifest 9 in example.org/a: manifest unknown: manifest unknown", ImageError.Code.unknownImage),
            ("requested access to the resource is denied", .unauthorized),
            ("unauthorized: authentication required", .unauthorized),
            ("pinging container registry example.org: dial tcp 1.2.3.4:443: connect: connection refused", .unreachable),
            ("dial tcp: lookup example.org: no such host", .unreachable),
            ("writing blob: storing blob to file: write /x: no space left on device", .diskFull),
            ("Digest did not match, expected sha256:a, got sha256:b", .digestMismatch), ("something else", .failed),
        ])
    func complaints(text: String, code: ImageError.Code) throws {
        let line = #"time="2026-01-01T00:00:00Z" level=fatal msg="\#(text)""#
        let error = Skopeo.explain("a warning\n\(line)\n", try Self.source("example.org/a"))
        #expect(error.code == code, "\(error.sentence)")
    }

    @Test("the message is taken out of the log line")
    func messages() {
        #expect(Skopeo.fatalMessage(#"time="x" level=fatal msg="read \"a\\b\": no""#) == #"read "a\b": no"#)
        #expect(Skopeo.fatalMessage("panic: oh") == "panic: oh")
        #expect(Skopeo.fatalMessage("") == "skopeo said nothing")
    }

    @Test("EROFS' checksum is the kernel's")
    func checksum() {
        // CRC-32C("123456789") is e3069283, inverted at the end.
        #expect(~Superblock.crc32c(Array("123456789".utf8)) == 0xe306_9283)
    }
}
