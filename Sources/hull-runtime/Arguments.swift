import Sandboxes

/// A verb's words, as runc's grammar has them: flags before the first word that is none, `--name value` or `--name=value`, one dash or two.
struct Arguments: Sendable {
    private(set) var flags: Set<String> = []
    private(set) var values: [String: [String]] = [:]
    private(set) var words: [String] = []

    /// Reads `arguments`. `valued` take a value, `plain` do not; `short` gives one-letter names their long ones.
    init(
        _ arguments: some Sequence<String>, valued: Set<String> = [], plain: Set<String> = [], short: [String: String] = [:]
    ) throws {
        var rest = Array(arguments)[...]
        while let word = rest.first {
            guard word.hasPrefix("-"), word.count > 1 else { break }
            rest = rest.dropFirst()
            if word == "--" { break }
            let text = word.drop { $0 == "-" }
            let pair = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let name = short[pair[0]] ?? pair[0]
            if valued.contains(name) {
                if pair.count == 2 {
                    values[name, default: []].append(pair[1])
                } else if let value = rest.popFirst() {
                    values[name, default: []].append(value)
                } else {
                    throw SandboxError("flag needs an argument: -\(name)", exitCode: 1)
                }
            } else if plain.contains(name) {
                if pair.count == 1 || pair[1] != "false" { flags.insert(name) }
            } else if name == "help" || name == "h" {
                flags.insert("help")
            } else {
                throw SandboxError("flag provided but not defined: -\(name)", exitCode: 1)
            }
        }
        words = Array(rest)
    }

    func has(_ flag: String) -> Bool { flags.contains(flag) }
    subscript(_ name: String) -> String? { values[name]?.last }

    /// The one word that a verb needs: the container's id.
    func id(_ verb: String) throws -> String {
        guard let id = words.first, !id.isEmpty else {
            throw SandboxError("hull-runtime: \"\(verb)\" requires a minimum of 1 argument", exitCode: 1)
        }
        return id
    }
}
