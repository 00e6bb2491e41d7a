/// `-v`, `--mount` and `--tmpfs` as Docker writes them.
public enum MountFlags {
    public typealias Mount = ContainerRecord.Mount

    /// `-v [SOURCE:]DESTINATION[:OPTIONS]`: a source with a slash is a path of the host, one without names a volume, none makes an
    /// anonymous volume. A host path that is missing is made, as Docker does.
    public static func volume(_ text: String) throws -> Mount {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (1...3).contains(parts.count), !parts.contains("") else {
            throw SandboxError("invalid volume \"\(text)\": write -v [SOURCE:]DESTINATION[:ro]")
        }
        let destination = parts.count == 1 ? parts[0] : parts[1]
        try requireAbsolute(destination, in: text)
        var mount: Mount
        if parts.count == 1 {
            mount = Mount(source: .volume(name: "", anonymous: true), destination: destination)
            mount.copy = true
        } else if parts[0].hasPrefix("/") || parts[0].hasPrefix(".") || parts[0].hasPrefix("~") {
            mount = Mount(source: .bind(parts[0]), destination: destination)
        } else {
            try requireName(parts[0], in: text)
            mount = Mount(source: .volume(name: parts[0], anonymous: false), destination: destination)
            mount.copy = true
        }
        for option in parts.count == 3 ? parts[2].split(separator: ",").map(String.init) : [] {
            switch option {
            case "ro", "readonly": mount.readOnly = true
            case "rw": mount.readOnly = false
            case "nocopy": mount.copy = false
            // These mean nothing across a machine's boundary.
            case "z", "Z", "cached", "delegated", "consistent", "rprivate", "private": break
            case "noexec", "nosuid", "nodev", "exec", "suid", "dev": mount.options.append(option)
            default:
                throw SandboxError(
                    "unknown volume option \"\(option)\" in \"\(text)\": ro, rw, nocopy, noexec, nosuid and nodev are known"
                )
            }
        }
        return mount
    }

    /// `--mount type=bind|volume|tmpfs,source=…,destination=…[,readonly][,…]`.
    public static func mount(_ text: String) throws -> Mount {
        var type = "volume"
        var source: String?
        var destination: String?
        var readOnly = false
        var noCopy = false
        var size: UInt64?
        var mode: UInt32?
        for field in text.split(separator: ",").map(String.init) {
            let pair = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(
                String.init)
            let value = pair.count == 2 ? pair[1] : nil
            switch pair[0].lowercased() {
            case "type": type = value ?? ""
            case "source", "src": source = value
            case "destination", "dst", "target": destination = value
            case "readonly", "ro": readOnly = value.map { ["1", "true"].contains($0) } ?? true
            case "volume-nocopy": noCopy = value.map { ["1", "true"].contains($0) } ?? true
            case "tmpfs-size":
                guard let bytes = value.flatMap(ByteCount.parse) else {
                    throw SandboxError("invalid tmpfs-size in --mount \"\(text)\"")
                }
                size = bytes
            case "tmpfs-mode":
                guard let bits = value.flatMap({ UInt32($0, radix: 8) }) else {
                    throw SandboxError("invalid tmpfs-mode in --mount \"\(text)\"")
                }
                mode = bits
            case "bind-propagation", "consistency": break  // mean nothing across a machine's boundary
            default: throw SandboxError("unknown field \"\(pair[0])\" in --mount \"\(text)\"")
            }
        }
        guard let destination else {
            throw SandboxError("--mount \"\(text)\" has no destination: add destination=/PATH")
        }
        try requireAbsolute(destination, in: text)
        var mount: Mount
        switch type {
        case "bind":
            guard let source else {
                throw SandboxError("--mount \"\(text)\" has no source: add source=/PATH")
            }
            mount = Mount(source: .bind(source), destination: destination)
            mount.options.append("must-exist")
        case "volume":
            if let source { try requireName(source, in: text) }
            mount = Mount(
                source: .volume(name: source ?? "", anonymous: source == nil), destination: destination)
            mount.copy = !noCopy
        case "tmpfs":
            guard source == nil else { throw SandboxError("--mount \"\(text)\": a tmpfs has no source") }
            mount = Mount(source: .tmpfs(size: size, mode: mode), destination: destination)
        default:
            throw SandboxError(
                "unknown mount type \"\(type)\" in --mount \"\(text)\": bind, volume and tmpfs are known")
        }
        mount.readOnly = readOnly
        return mount
    }

    /// `--tmpfs DESTINATION[:size=64m,mode=1777,…]`.
    public static func tmpfs(_ text: String) throws -> Mount {
        let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
        guard let destination = parts.first else {
            throw SandboxError("--tmpfs needs a destination, e.g. --tmpfs /run")
        }
        try requireAbsolute(destination, in: text)
        var size: UInt64?
        var mode: UInt32?
        var options: [String] = []
        var readOnly = false
        for option in parts.count == 2 ? parts[1].split(separator: ",").map(String.init) : [] {
            let pair = option.split(separator: "=", maxSplits: 1).map(String.init)
            switch (pair[0], pair.count == 2 ? pair[1] : nil) {
            case ("size", let value?):
                guard let bytes = ByteCount.parse(value) else {
                    throw SandboxError("invalid size in --tmpfs \"\(text)\"")
                }
                size = bytes
            case ("mode", let value?):
                guard let bits = UInt32(value, radix: 8) else {
                    throw SandboxError("invalid mode in --tmpfs \"\(text)\"")
                }
                mode = bits
            case ("ro", nil): readOnly = true
            case ("rw", nil), ("exec", nil), ("noexec", nil), ("nosuid", nil), ("nodev", nil),
                ("suid", nil), ("dev", nil):
                if option != "rw" { options.append(option) }
            default: throw SandboxError("unknown option \"\(option)\" in --tmpfs \"\(text)\"")
            }
        }
        var mount = Mount(source: .tmpfs(size: size, mode: mode), destination: destination)
        mount.options = options
        mount.readOnly = readOnly
        return mount
    }

    private static func requireAbsolute(_ path: String, in text: String) throws {
        guard path.hasPrefix("/"), path != "/" else {
            throw SandboxError(
                "invalid mount \"\(text)\": the destination must be an absolute path other than /")
        }
    }

    private static func requireName(_ name: String, in text: String) throws {
        guard VolumeName.isValid(name) else {
            throw SandboxError(
                "invalid volume name \"\(name)\" in \"\(text)\": use letters, digits, _ . - (and a path begins with /)"
            )
        }
    }
}

/// Names of volumes and containers: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, as Docker's.
public enum VolumeName {
    public static func isValid(_ name: String) -> Bool {
        guard let first = name.utf8.first, isAlphanumeric(first), name.utf8.count <= 255 else {
            return false
        }
        return name.utf8.allSatisfy { isAlphanumeric($0) || "_.-".utf8.contains($0) }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
    }
}
