import LinuxSystem
import Testing

/// What the checklist promises of itself; starts nothing.
@Suite struct ChecklistShape {
    @Test func everyNounHasARow() {
        let missing = Noun.allCases.filter { noun in !Row.all.contains { $0.noun == noun } }
        #expect(missing.isEmpty, "\(missing)")
    }

    @Test func namesAreUnique() {
        let names = Row.all.map(\.name)
        #expect(Set(names).count == names.count, "\(names.filter { name in names.count { $0 == name } > 1 })")
    }

    @Test(arguments: [(Row.Kind.docker, 60), (.podman, 55)]) func itIsLongEnough(_ kind: Row.Kind, _ least: Int) {
        #expect(Row.all.count { $0.engines.contains(kind) && !$0.machineOnly } >= least)
    }

    /// At most one row in twenty may be forbidden by a machine's boundary, and people can read why.
    @Test func exceptionsAreFewAndWrittenDown() throws {
        let page = try readText(Bench.repository + "/docs/compatibility.md")
        for (name, reason) in Exceptions.ofMachines.merging(Exceptions.ofHost, uniquingKeysWith: { first, _ in first }) {
            #expect(Row.all.contains { $0.name == name }, "no row is called \(name)")
            #expect(page.contains(name) && page.contains(reason), "docs/compatibility.md does not explain: \(name)")
        }
        #expect(Exceptions.ofMachines.count * 20 <= Row.all.count)
    }

    @Test(arguments: [
        ("run --rm @ true", ["run", "--rm", "@", "true"]),
        ("exec a sh -c 'echo \"x y\"'", ["exec", "a", "sh", "-c", "echo \"x y\""]),
        ("-e \"A=b c\"  ''", ["-e", "A=b c", ""]),
        ("", []),
    ]) func wordsOfALine(_ line: String, _ words: [String]) { #expect(line.words == words) }
}
