public import Netlink

/// A guest's resolv.conf(5), as data.
public struct GuestResolver: Codable, Hashable, Sendable {
    public var nameservers: [IPAddress]
    public var search: [String]
    public var options: [String]

    public init(nameservers: [IPAddress] = [], search: [String] = [], options: [String] = []) {
        self.nameservers = nameservers
        self.search = search
        self.options = options
    }

    /// With what the user asked for (`--dns`, `--dns-search`, `--dns-option`) in the place of the host's; an empty list
    /// asks for nothing, and a search of `.` for no search domain at all.
    public func overridden(nameservers: [IPAddress], search: [String], options: [String])
        -> GuestResolver
    {
        GuestResolver(
            nameservers: nameservers.isEmpty ? self.nameservers : nameservers,
            search: search == ["."] ? [] : search.isEmpty ? self.search : search,
            options: options.isEmpty ? self.options : options)
    }

    /// The file's text.
    public var text: String {
        var lines = nameservers.map { "nameserver \($0)" }
        if !search.isEmpty { lines.append("search " + search.joined(separator: " ")) }
        if !options.isEmpty { lines.append("options " + options.joined(separator: " ")) }
        return lines.map { $0 + "\n" }.joined()
    }
}
