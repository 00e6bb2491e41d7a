/// Why a text names no image.
public struct InvalidReference: Error, Equatable, CustomStringConvertible {
    public var text: String
    public var reason: String
    public var description: String { "invalid reference \"\(text)\": \(reason)" }
}

/// The name of an image in a registry, read as Docker reads it: `debian` is `docker.io/library/debian:latest`.
/// (distribution's reference grammar; a first part with `.`, `:` or named `localhost` is a registry)
public struct Reference: Hashable, Sendable, CustomStringConvertible {
    /// Host and optional port.
    public var registry: String
    /// The path in the registry, e.g. `library/debian`.
    public var repository: String
    /// Nil only when there is a digest.
    public var tag: String?
    public var digest: Digest?

    /// Reads `text`; without a tag and a digest the tag is `latest`.
    public init(_ text: String) throws(InvalidReference) {
        func refuse(_ reason: String) -> InvalidReference { .init(text: text, reason: reason) }
        var rest = Substring(text)
        if text.isEmpty { throw refuse("it is empty") }
        if let at = rest.firstIndex(of: "@") {
            guard let digest = Digest(rest[rest.index(after: at)...]) else {
                throw refuse("what follows @ is no sha256 or sha512 digest")
            }
            self.digest = digest
            rest = rest[..<at]
        }
        var name = rest
        if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("/") {
            let tag = rest[rest.index(after: colon)...]
            guard Self.isTag(tag) else {
                throw refuse(
                    "a tag has 1 to 128 letters, digits, '_', '.' and '-', and begins with none of the last two")
            }
            self.tag = String(tag)
            name = rest[..<colon]
        }
        if let slash = name.firstIndex(of: "/"), Self.looksLikeRegistry(name[..<slash]) {
            guard Self.isRegistry(name[..<slash]) else {
                throw refuse("\"\(name[..<slash])\" is no host name")
            }
            registry = String(name[..<slash])
            repository = String(name[name.index(after: slash)...])
            if registry == "index.docker.io" { registry = "docker.io" }
        } else {
            registry = "docker.io"
            repository = String(name)
        }
        if registry == "docker.io", !repository.isEmpty, !repository.contains("/") {
            repository = "library/\(repository)"
        }
        if repository.contains(where: { $0.isASCII && $0.isUppercase }) {
            throw refuse("a repository's name must be lower-case")
        }
        guard Self.isRepository(repository) else {
            throw refuse(
                "a repository's name is made of lower-case letters and digits, parted by '.', '_', '-' and '/'")
        }
        if registry.utf8.count + 1 + repository.utf8.count > 255 {
            throw refuse("the name has more than 255 characters")
        }
        if tag == nil && digest == nil { tag = "latest" }
    }

    /// The repository with its registry, without tag and digest.
    public var name: String { "\(registry)/\(repository)" }

    /// The whole name, e.g. `docker.io/library/debian:latest`.
    public var description: String {
        name + (tag.map { ":\($0)" } ?? "") + (digest.map { "@\($0)" } ?? "")
    }

    /// The repository as people write it, e.g. `debian`.
    public var familiarName: String {
        guard registry == "docker.io" else { return name }
        return repository.hasPrefix("library/")
            ? String(repository.dropFirst("library/".count)) : repository
    }

    /// As people write it, e.g. `debian:latest`.
    public var familiar: String {
        familiarName + (tag.map { ":\($0)" } ?? "") + (digest.map { "@\($0)" } ?? "")
    }

    /// What a registry is asked for: by digest where there is one.
    public var wire: String { digest.map { "\(name)@\($0)" } ?? "\(name):\(tag ?? "latest")" }

    /// Whether the registry is on this machine's loopback, where Docker too allows plain HTTP.
    public var isLoopback: Bool {
        var host = Substring(registry)
        if host.hasPrefix("["), let end = host.firstIndex(of: "]") {
            host = host[host.index(after: host.startIndex)..<end]
            return host == "::1"
        }
        if let colon = host.lastIndex(of: ":") { host = host[..<colon] }
        return host == "localhost"
            || (host.hasPrefix("127.") && host.allSatisfy { $0.isNumber || $0 == "." })
    }

    private static func looksLikeRegistry(_ part: Substring) -> Bool {
        part.contains(".") || part.contains(":") || part == "localhost"
            || part.contains { $0.isASCII && $0.isUppercase }
    }

    private static func isRegistry(_ part: Substring) -> Bool {
        var host = part
        if host.hasPrefix("[") {
            guard let end = host.firstIndex(of: "]") else { return false }
            let address = host[host.index(after: host.startIndex)..<end]
            guard !address.isEmpty, address.allSatisfy({ $0 == ":" || $0 == "." || $0.isHexDigit }) else {
                return false
            }
            host = host[host.index(after: end)...]
            if host.isEmpty { return true }
            return host.first == ":" && isPort(host.dropFirst())
        }
        if let colon = host.lastIndex(of: ":") {
            guard isPort(host[host.index(after: colon)...]) else { return false }
            host = host[..<colon]
        }
        return host.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            !label.isEmpty && label.first != "-" && label.last != "-"
                && label.utf8.allSatisfy { isLetterOrDigit($0) || $0 == UInt8(ascii: "-") }
        }
    }

    private static func isPort(_ text: Substring) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { (0x30...0x39).contains($0) } && UInt16(text) != nil
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x61...0x7a).contains(byte) || (0x41...0x5a).contains(byte)
    }

    static func isTag(_ tag: Substring) -> Bool {
        guard (1...128).contains(tag.utf8.count), let first = tag.utf8.first else { return false }
        let word = { (byte: UInt8) in isLetterOrDigit(byte) || byte == UInt8(ascii: "_") }
        return word(first)
            && tag.utf8.allSatisfy { word($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") }
    }

    /// path-component := [a-z0-9]+ ((\.|_|__|-+) [a-z0-9]+)*
    private static func isRepository(_ path: String) -> Bool {
        path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { part in
            var separator: [UInt8] = []
            var seen = false
            for byte in part.utf8 {
                if (0x30...0x39).contains(byte) || (0x61...0x7a).contains(byte) {
                    if !separator.isEmpty {
                        let dashes = separator.allSatisfy { $0 == UInt8(ascii: "-") }
                        guard seen, dashes || separator == [0x2e] || separator == [0x5f] || separator == [0x5f, 0x5f]
                        else { return false }
                    }
                    separator = []
                    seen = true
                } else if byte == 0x2e || byte == 0x5f || byte == 0x2d {
                    separator.append(byte)
                } else {
                    return false
                }
            }
            return seen && separator.isEmpty
        }
    }
}
