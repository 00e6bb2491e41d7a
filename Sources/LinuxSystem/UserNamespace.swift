import Glibc

/// The user namespace that this process is in. (user_namespaces(7))
public enum UserNamespace {
    /// A line of `/proc/PID/uid_map`: ids from `inside` on are those from `outside` on in the parent.
    public struct Range: Hashable, Sendable {
        public var inside: UInt32
        public var outside: UInt32
        public var count: UInt32
    }

    /// Whether it is the host's own: every id is itself.
    public static var isInitial: Bool { ranges("uid_map") == [Range(inside: 0, outside: 0, count: .max)] }

    /// The host's user who is root here; nil in the host's own namespace.
    public static var owner: UInt32? { isInitial ? nil : ranges("uid_map").first { $0.inside == 0 }?.outside }

    /// The highest id that is both a user's and a group's here: nobody's but a namespace's own.
    public static var highest: UInt32 {
        func end(_ file: String) -> UInt32 { ranges(file).map { $0.inside &+ ($0.count - 1) }.max() ?? 0 }
        return min(end("uid_map"), end("gid_map"))
    }

    /// The lines of `uid_map` or `gid_map`.
    public static func ranges(_ file: String) -> [Range] {
        // Without /proc nothing else works either.
        parse((try? readText("/proc/self/\(file)")) ?? "")
    }

    static func parse(_ text: String) -> [Range] {
        text.split(separator: "\n").compactMap { line in
            let numbers = line.split(separator: " ").compactMap { UInt32($0) }
            return numbers.count == 3 ? Range(inside: numbers[0], outside: numbers[1], count: numbers[2]) : nil
        }
    }
}
