/// `--ulimit TYPE=SOFT[:HARD]`, by the names of ulimit in Docker (setrlimit(2)).
public enum Limits {
    static let numbers: [String: Int32] = [
        "cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7,
        "memlock": 8, "as": 9, "locks": 10,
        "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15,
    ]

    /// Reads one flag.
    public static func parse(_ text: String) throws -> ContainerRecord.Limit {
        let pair = text.split(separator: "=", maxSplits: 1).map(String.init)
        func value(_ text: Substring) -> UInt64? {
            text == "-1" || text == "unlimited" ? .max : UInt64(text)
        }
        guard pair.count == 2, numbers[pair[0]] != nil else {
            throw SandboxError(
                "invalid ulimit \"\(text)\": write TYPE=SOFT[:HARD] with one of \(numbers.keys.sorted().joined(separator: ", "))"
            )
        }
        let values = pair[1].split(separator: ":", omittingEmptySubsequences: false).map(value)
        guard (1...2).contains(values.count), let soft = values[0], let hard = values.last!,
            soft <= hard
        else {
            throw SandboxError(
                "invalid ulimit \"\(text)\": the soft limit is a number (or -1) not above the hard one")
        }
        return ContainerRecord.Limit(name: pair[0], soft: soft, hard: hard)
    }

    /// RLIMIT_* for a name.
    static func number(_ name: String) -> Int32? { numbers[name] }
}
