import ArgumentParser
import Images
import OCISpec
import Sandboxes

struct Pull: Verb {
    static let configuration = CommandConfiguration(commandName: "pull", abstract: "Fetch an image, or fetch it anew.")

    @Flag(name: .shortAndLong, help: "Print the id only.") var quiet = false
    @Argument(help: "A reference, or oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE.")
    var image: String

    func perform() async throws -> Int32 {
        let store = try await openStore()
        try store.roots.prepare()
        let source = try ImageSource(image, relativeTo: Globals.absolute("."))
        if case .rootfs = source {
            throw SandboxError("a root filesystem is no image and needs no pull: hull run \(image)")
        }
        let found = try await store.imageStore().resolve(
            source, pull: .always, progress: PullDisplay(quiet: quiet).callback)
        print(found.id.description)
        return 0
    }
}

struct ImagesVerb: Verb {
    static let configuration = CommandConfiguration(commandName: "images", abstract: "List images.")

    @Flag(name: .shortAndLong, help: "Only ids.") var quiet = false
    @Flag(name: .long, help: "Whole ids.") var noTrunc = false
    @Option(name: .long, help: "json, or a template such as '{{.Repository}}'.") var format: String?
    @Argument(help: "Only images with this name.") var name: String?

    func perform() async throws -> Int32 {
        let store = try await openStore()
        let rows = try store.imageStore().list().flatMap {
            image -> [[String: String]] in
            let id =
                noTrunc
                ? image.id.description : String(image.id.description.split(separator: ":").last!.prefix(12))
            let created = image.created.flatMap { Timestamp(rfc3339: $0) }
            let names: [(String, String)] =
                image.names.isEmpty ? [("<none>", "<none>")] : image.names.map { Self.parted($0.familiar) }
            return names.map { repository, tag in
                [
                    "ID": id, "Repository": repository, "Tag": tag,
                    "Size": ByteCount.format(UInt64(max(0, image.size))),
                    "CreatedSince": created.map { Ago.text($0.nanoseconds) } ?? "N/A",
                    "CreatedAt": image.created ?? "N/A",
                    "Digest": image.manifest.description,
                ]
            }
        }.filter { row in
            name.map { $0 == row["Repository"] || $0 == "\(row["Repository"]!):\(row["Tag"]!)" } ?? true
        }
        let table = Table(
            columns: [
                .init(key: "Repository", title: "REPOSITORY"), .init(key: "Tag", title: "TAG"),
                .init(key: "ID", title: "IMAGE ID"),
                .init(key: "CreatedSince", title: "CREATED"), .init(key: "Size", title: "SIZE"),
            ], rows: rows)
        try table.print(format: format, quiet: quiet)
        return 0
    }

    /// The last colon after the last slash parts the tag; a digest is no tag.
    private static func parted(_ name: String) -> (String, String) {
        if let at = name.firstIndex(of: "@") { return (String(name[..<at]), "<none>") }
        let start = name.lastIndex(of: "/") ?? name.startIndex
        guard !name.hasPrefix("oci"), !name.hasPrefix("docker-archive:"),
            let colon = name[start...].lastIndex(of: ":")
        else { return (name, "<none>") }
        return (String(name[..<colon]), String(name[name.index(after: colon)...]))
    }
}

struct Rmi: Verb {
    static let configuration = CommandConfiguration(commandName: "rmi", abstract: "Remove images.")

    @Flag(name: .shortAndLong, help: "Even if it has several names.") var force = false
    @Argument(help: "Names or ids.") var images: [String]

    func perform() async throws -> Int32 {
        let store = try await openStore()
        let all = try store.imageStore()
        return try await ForEach.container(images) { name in
            let removed = try all.remove(name, force: force) { try store.users(ofImage: $0.description) }
            for tag in removed.untagged { print("Untagged: \(tag)") }
            for id in removed.deleted { print("Deleted: \(id)") }
            return 0
        }
    }
}
