import Glibc
import LinuxSystem
import Sandboxes

/// Forms that several flags share.
enum OptionText {
    /// `NAME=VALUE` each; a name alone is one with an empty value where `emptyValue`.
    static func pairs(_ texts: [String], flag: String, emptyValue: Bool) throws -> [String: String] {
        var all: [String: String] = [:]
        for text in texts {
            let pair = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard !pair[0].isEmpty, pair.count == 2 || emptyValue else {
                throw SandboxError("invalid \(flag) \"\(text)\": write NAME=VALUE")
            }
            all[pair[0]] = pair.count == 2 ? pair[1] : ""
        }
        return all
    }

    /// Variables from files, then from flags; a name alone takes this process's value, or nothing when it has none.
    static func environment(files: [String], entries: [String]) throws -> [String] {
        var all: [String] = []
        func add(_ entry: String) {
            if entry.contains("=") {
                all.append(entry)
            } else if let value = getenv(entry) {
                all.append("\(entry)=\(String(cString: value))")
            }
        }
        for file in files {
            for line in try readText(file).split(separator: "\n") {
                let entry = line.drop { $0 == " " || $0 == "\t" }
                if entry.isEmpty || entry.hasPrefix("#") { continue }
                guard let first = entry.first, first != "=" else {
                    throw SandboxError("the line \"\(line)\" of \(file) names no variable")
                }
                add(String(entry))
            }
        }
        for entry in entries {
            guard let first = entry.first, first != "=" else {
                throw SandboxError("invalid --env \"\(entry)\": write NAME=VALUE")
            }
            add(entry)
        }
        return all
    }
}
