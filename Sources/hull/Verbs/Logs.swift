import ArgumentParser
import Glibc
import LinuxSystem
import Sandboxes

struct Logs: Verb {
    static let configuration = CommandConfiguration(commandName: "logs", abstract: "Show what a container wrote.")

    @Flag(name: .shortAndLong, help: "Go on while it runs.") var follow = false
    @Flag(name: .shortAndLong, help: "Show the time of each line.") var timestamps = false
    @Option(name: [.customShort("n"), .long], help: "Only so many of the last lines.") var tail =
        "all"
    @Option(name: .long, help: "Only since this time (RFC 3339), or so long ago (e.g. 10m).")
    var since: String?
    @Option(name: .long, help: "Only until this time (RFC 3339), or so long ago.") var until: String?
    @Argument(help: "Name or id.") var container: String

    func perform() async throws -> Int32 {
        let found = try await openStore().find(container)
        guard tail == "all" || Int(tail).map({ $0 >= 0 }) == true else {
            throw ValidationError("--tail takes a number, or all")
        }
        let reader = LogReader(
            path: found.paths.log, tail: Int(tail), since: try since.map(Self.moment),
            until: try until.map(Self.moment)
        ) { entries in
            // Runs of one stream are one write.
            var text: [UInt8] = []
            var stream = OutputStream.stdout
            for entry in entries {
                if entry.stream != stream || text.count > 1 << 16 {
                    StandardStreams.write(stream == .stdout ? 1 : 2, text)
                    text = []
                    stream = entry.stream
                }
                if timestamps { text += Array("\(entry.time) ".utf8) }
                text += entry.text
            }
            StandardStreams.write(stream == .stdout ? 1 : 2, text)
        }
        try await reader.read(following: follow ? found : nil)
        return 0
    }

    /// `10m`, `1h30m`, or RFC 3339.
    private static func moment(_ text: String) throws -> Int64 {
        if let time = Timestamp(rfc3339: text) { return time.nanoseconds }
        if let seconds = Int64(text) { return seconds * 1_000_000_000 }
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
        var total: Int64 = 0
        var number = ""
        for character in text {
            if character.isNumber {
                number.append(character)
                continue
            }
            guard let unit = units[character], let value = Int64(number) else {
                throw ValidationError(
                    "invalid time \"\(text)\": write RFC 3339, seconds since 1970, or e.g. 10m")
            }
            total += value * unit
            number = ""
        }
        guard number.isEmpty, total > 0 else {
            throw ValidationError("invalid time \"\(text)\": write RFC 3339 or e.g. 10m")
        }
        return Timestamp.now.nanoseconds - total * 1_000_000_000
    }
}
