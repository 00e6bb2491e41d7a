import Testing

@testable import EngineSetup

@Suite struct JSONTextTests {
    @Test(
        "What is added stands as its neighbours stand",
        arguments: [
            ("{}\n", "{\n    \"a\": {\"b\": 1}\n}\n"),
            ("{\n  \"x\": [1, 2]\n}\n", "{\n  \"x\": [1, 2],\n  \"a\": {\"b\": 1}\n}\n"),
            ("{\"x\": true}", "{\"x\": true, \"a\": {\"b\": 1}}"),
            ("{\n\t\"a\": {\n\t\t\"c\": \"}\"\n\t}\n}", "{\n\t\"a\": {\n\t\t\"c\": \"}\",\n\t\t\"b\": 1\n\t}\n}"),
            ("{\"a\": {\"b\": 22 }}", "{\"a\": {\"b\": 1 }}"),
            ("{\"a\": {}}", "{\"a\": {\n        \"b\": 1\n    }}"),
        ])
    func set(_ before: String, _ after: String) throws {
        var document = try JSONText(before)
        try document.set(["a", "b"], to: "1")
        #expect(document.text == after)
        try document.set(["a", "b"], to: "1")
        #expect(document.text == after)
    }

    @Test(
        "What is taken out leaves the rest as it is",
        arguments: [
            ("{\"a\": 1}", "{}"),
            ("{\n  \"a\": 1,\n  \"b\": 2\n}", "{\n  \"b\": 2\n}"),
            ("{\n  \"b\": 2,\n  \"a\": 1\n}", "{\n  \"b\": 2\n}"),
            ("{\"b\": 2, \"a\": {\"c\": []}, \"d\": -1.5e3}", "{\"b\": 2, \"d\": -1.5e3}"),
            ("{\"b\": 2}", "{\"b\": 2}"),
        ])
    func remove(_ before: String, _ after: String) throws {
        var document = try JSONText(before)
        try document.remove(["a"])
        #expect(document.text == after)
    }

    @Test(
        "What is no JSON is refused",
        arguments: [
            "", "{", "{\"a\"}", "{\"a\": }", "{\"a\": 1,}", "{\"a\": 1} x", "{'a': 1}", "{\"a\": 1 \"b\": 2}", "[1, 2",
            "{\"a\": \"b}", "{\"a\": nan}",
            "{\"a\": 1, \"a\": 2}", "// remark\n{}", String(repeating: "[", count: 100), "{\"a\": \"\\",
        ])
    func refused(_ text: String) {
        #expect(throws: TextError.self) { try JSONText(text) }
    }

    @Test("A value that is no object takes no member") func noObject() throws {
        var document = try JSONText("{\"a\": []}")
        #expect(throws: TextError("a is no object")) { try document.set(["a", "b"], to: "1") }
    }
}
