import Testing

@testable import EngineSetup

@Suite struct TOMLTextTests {
    static let whole = #"""
        # A remark
        version = 2
        "quoted key" = 'literal \ string' # and why
        dates = 1979-05-27 07:32:00
        list = [
          "one", # the first
          "]",
        ]
        text = """
        [no.header]
        key = "quoted"
        """
        point = { x = 1, "y" = "}" }
        a.b = true

        [plugins]
          [plugins."io.containerd.grpc.v1.cri"] # CRI
            n = -1_000
        [[array]]
        k = 1
        [[array]]
        k = 2

        """#

    @Test("It is read as far as editing needs") func reads() throws {
        let document = try TOMLText(Self.whole)
        #expect(document.text == Self.whole)
        #expect(document.value(["version"]) == "2")
        #expect(document.value(["quoted key"]) == #"'literal \ string'"#)
        #expect(document.value(["plugins", "io.containerd.grpc.v1.cri", "n"]) == "-1_000")
        #expect(document.value(["a", "b"]) == "true")
        #expect(document.value(["key"]) == nil)
        #expect(document.tables.map(\.path).count == 5)
        #expect(document.hasTable(["plugins", "io.containerd.grpc.v1.cri"]) && !document.hasTable(["no", "header"]))
        #expect(document.isValue(["point", "z"]) && !document.isValue(["plugins", "x"]))
        #expect(TOMLText.strings(of: "[ \"a\", 'b',\n ]") == ["a", "b"])
        #expect(TOMLText.strings(of: "[1]") == nil)
    }

    @Test("Tables go with all below them, and nothing else does") func removes() throws {
        var document = try TOMLText("[a]\nx = 1\n\n[b.c]\ny = 2\n[b.c.d]\nz = 3\n\n# About e\n[e]\nw = 4\n[b.cc]\n")
        try document.removeTables(["b", "c"])
        #expect(document.text == "[a]\nx = 1\n\n# About e\n[e]\nw = 4\n[b.cc]\n")
    }

    @Test(
        "What is no TOML is refused, with its line",
        arguments: [
            ("a", 1), ("a =", 1), ("a = 1\n[b", 2), ("[a]]", 1), ("a = \"b", 1), ("a = [1,\n2", 1), ("a = 1\na = 2", 2),
            ("[a]\n[a]", 2),
            ("a = 1 b = 2", 1), ("= 1", 1), ("a = ]", 1), ("{}", 1), ("a = '''b", 1), ("[]", 1), ("a = b c d", 1),
        ])
    func refused(_ text: String, _ line: Int) {
        #expect {
            try TOMLText(text)
        } throws: { error in
            "\(error)".hasPrefix("line \(line): ")
        }
    }
}
