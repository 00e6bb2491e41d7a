import Glibc
import LinuxSystem
public import OCISpec

extension ImageStore {
    /// The image of `source`: from the store when it is there and `pull` allows, else fetched, verified and built.
    /// With `.missing` and the image there, nothing is started and two small files are read. A source that is a file counts as
    /// there as long as the file is the one that was read. The result has only the name that it was resolved by.
    public func resolve(
        _ source: ImageSource, pull: PullPolicy = .missing, platform: Platform = .host, progress: PullProgress? = nil
    ) async throws -> Image {
        if case .rootfs(let directory) = source {
            throw ImageError(.badSource, "rootfs:\(directory) is a folder and no image")
        }
        if pull != .always, let found = try here(source), exists(found.rootPath) { return try suits(found, platform) }
        do {
            return try await fetch(source, pull, platform, progress)
        } catch {
            // What was fetched for nothing goes, unless others are at work: then the next collection takes it.
            do { try collectGarbage() } catch let second {
                throw ImageError(.failed, "clean up \(root) (\(second)) after", cause: error)
            }
            throw error
        }
    }

    /// Under the locks: as `resolve`, for what is not here.
    private func fetch(_ source: ImageSource, _ pull: PullPolicy, _ platform: Platform, _ progress: PullProgress?) async throws
        -> Image
    {
        let name = source.familiar
        let held = try hold()
        let lockPath = "\(root)/ingest/pull-\(SHA256.digest(source.description.utf8).hex).lock"
        let lock = try await waitForLock(lockPath, time: limits.time, awaiting: "another pull of \(name)")
        defer {
            unlink(lockPath)
            withExtendedLifetime((held, lock)) {}
        }
        // Somebody else may have pulled it while this one waited.
        if pull != .always, let found = try here(source) {
            let suiting = try suits(found, platform)
            if !exists(found.rootPath) { try await rebuild(suiting, name, progress) }
            return suiting
        }
        if pull == .never {
            throw ImageError(.notHere, "there is no image \"\(name)\" here, and --pull=never forbids fetching it")
        }
        return try await Pull(store: self, source: source, platform: platform, progress: progress).run()
    }

    private func here(_ source: ImageSource) throws -> Image? {
        guard let name = try read(NameRecord.self, path(ofName: source.description)), name.stamp == Stamp(of: source),
            let record = try read(ImageRecord.self, path(ofImage: name.image))
        else { return nil }
        return image(record, [name])
    }

    private func suits(_ image: Image, _ platform: Platform) throws -> Image {
        try check(image.config, platform, image.names.first?.familiar ?? image.id.short)
        return image
    }

    func check(_ config: ImageConfig, _ platform: Platform, _ name: String) throws(ImageError) {
        guard config.os == platform.os, config.architecture == platform.architecture else {
            throw ImageError(.noPlatform, "the image \(name) is for \(config.platform), and this host runs \(platform)")
        }
    }

    /// Builds a root that is gone, from the layers, which are still there.
    private func rebuild(_ image: Image, _ name: String, _ progress: PullProgress?) async throws {
        let builder = RootBuilder(
            store: self, name: name, layers: image.layers, diffs: image.config.rootfs.diffIDs, progress: progress)
        _ = try await builder.build(RootBuilder.fileName(image.config))
    }
}
