import OCISpec
import Testing

@Suite("Digests")
struct DigestTests {
    @Test(
        "SHA-256 gives the values of FIPS 180-4's examples",
        arguments: [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
            ),
            (String(repeating: "a", count: 1_000), "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"),
            (String(repeating: "a", count: 55), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"),
            (String(repeating: "a", count: 56), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"),
            (String(repeating: "a", count: 64), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"),
        ])
    func known(text: String, hex: String) {
        #expect(SHA256.digest(text.utf8).hex == hex)
    }

    @Test("only well-formed digests of known algorithms are read")
    func forms() {
        let hex = String(repeating: "0a", count: 32)
        #expect(Digest("sha256:\(hex)")?.hex == hex)
        #expect(Digest("sha512:\(hex)\(hex)") != nil)
        for bad in [
            "", "sha256", "sha256:", "sha256:\(hex)0", "sha256:\(hex.uppercased())", "md5:\(hex)", "sha512:\(hex)", ":\(hex)",
            "sha256:../../../../../../../../../../../../../../../../../../etc/pas", " sha256:\(hex)", "sha256:\(hex)\n",
        ] {
            #expect(Digest(bad) == nil, "\(bad)")
        }
    }
}
