import LinuxSystem
import OCISpec

/// skopeo's words: how it is asked, and what its complaints mean. Pure.
enum Skopeo {
    /// A source as containers-transports(5) writes it.
    static func name(_ source: ImageSource, digest: Digest? = nil) -> String {
        guard case .registry(let reference) = source else { return source.description }
        return "docker://\(digest.map { "\(reference.name)@\($0)" } ?? reference.wire)"
    }

    /// Docker too allows plain HTTP on the loopback.
    private static func isInsecure(_ source: ImageSource) -> Bool {
        if case .registry(let reference) = source { reference.isLoopback } else { false }
    }

    /// Prints the raw manifest or index; with `config` the raw config.
    static func inspect(_ source: ImageSource, digest: Digest? = nil, config: Bool = false, platform: Platform, work: String)
        -> [String]
    {
        global(platform, work) + ["inspect", "--raw", "--no-tags"] + (config ? ["--config"] : [])
            + (isInsecure(source) ? ["--tls-verify=false"] : []) + [name(source, digest: digest)]
    }

    /// Copies the image for `platform` into an OCI layout. Layers stay as they are: their digests are the manifest's.
    static func copy(_ source: ImageSource, digest: Digest? = nil, to layout: String, platform: Platform, work: String)
        -> [String]
    {
        global(platform, work) + ["copy", "--quiet", "--remove-signatures", "--dest-oci-accept-uncompressed-layers"]
            + (isInsecure(source) ? ["--src-tls-verify=false"] : []) + [name(source, digest: digest), "oci:\(layout):image"]
    }

    /// `work` is for its temporary files, which are in /var/tmp otherwise, whatever TMPDIR says.
    private static func global(_ platform: Platform, _ work: String) -> [String] {
        ["--tmpdir", work, "--override-os", platform.os, "--override-arch", platform.architecture]
            + (platform.variant.map { ["--override-variant", $0] } ?? [])
    }

    /// What a failed skopeo means for a person who wanted `source`.
    static func explain(_ complaint: String, _ source: ImageSource) -> ImageError {
        let message = fatalMessage(complaint)
        let text = message.lowercased()
        func has(_ words: String...) -> Bool { words.contains { text.contains($0) } }
        let name = source.familiar
        if has("no space left on device", "disk quota exceeded") {
            return ImageError(.diskFull, "no room on the disk for \(name): free some, e.g. with hull rmi and hull gc")
        }
        if has("does not match", "did not match", "digest mismatch", "unexpected digest", "corrupted") {
            return ImageError(.digestMismatch, "what came for \(name) is not what its digest names: \(message)")
        }
        switch source {
        case .registry(let reference):
            if has("manifest unknown", "name unknown", "not known to registry", "not found", "name_unknown", "manifest_unknown") {
                return ImageError(
                    .unknownImage, "\(reference.registry) has no image \(name): check the name and the tag")
            }
            if has("unauthorized", "authentication required", "access to the resource is denied", "forbidden", "status code 401")
            {
                return ImageError(
                    .unauthorized,
                    "\(reference.registry) does not show \(name): there is none, or it wants a login (skopeo login)")
            }
            if has(
                "connection refused", "no such host", "network is unreachable", "timeout", "no route to host",
                "server misbehaving",
                "name resolution", "connection reset", "x509", "http response to https", "pinging container registry", "eof")
            {
                return ImageError(
                    .unreachable, "\(reference.registry) cannot be reached for \(name): \(message)")
            }
        case .ociLayout(let path, let tag), .ociArchive(let path, let tag):
            if has("no descriptor found", "more than one image", "cannot find", "image not found") {
                return ImageError(
                    .unknownImage,
                    "\(path) has \(tag.map { "no image tagged \($0)" } ?? "several images or none: name one with :TAG")")
            }
        case .dockerArchive(let path, let tag):
            if has("not found", "multiple images", "more than one") {
                return ImageError(
                    .unknownImage,
                    "\(path) has \(tag.map { "no image \($0)" } ?? "several images or none: name one with :REFERENCE")")
            }
        case .rootfs: break
        }
        if has("unexpected eof", "invalid character", "tar header", "archive/tar", "invalid tar", "gzip: ") {
            return ImageError(.invalidImage, "\(name) is damaged or truncated: \(message)")
        }
        return ImageError(.failed, "fetch \(name): \(message)")
    }

    /// The message of skopeo's last fatal line: `time=… level=fatal msg="…"`.
    static func fatalMessage(_ complaint: String) -> String {
        let line = complaint.split(separator: "\n").last { $0.contains("level=fatal") } ?? complaint.split(separator: "\n").last
        guard let line else { return "skopeo said nothing" }
        guard let start = line.range(of: "msg=\"") else { return String(line.prefix(600)) }
        var text = ""
        var escaped = false
        for character in line[start.upperBound...] {
            if escaped {
                text.append(character == "n" ? " " : character)
                escaped = false
            } else if character == "\\" {
                escaped = true
            } else if character == "\"" {
                break
            } else {
                text.append(character)
            }
        }
        return String(text.prefix(600))
    }
}

extension Substring {
    /// Where `other` first is. (The standard library's own needs Foundation or regular expressions.)
    func range(of other: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(other) { return start..<index(start, offsetBy: other.count) }
            start = index(after: start)
        }
        return nil
    }
}
