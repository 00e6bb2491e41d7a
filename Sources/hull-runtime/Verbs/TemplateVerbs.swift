import Glibc
import LinuxSystem
import Sandboxes

/// What Hull starts itself for later starts, in namespaces of its own.
enum TemplateVerbs {
    /// `template-builder`: makes the templates that starts found missing.
    static func build() -> Never {
        guard getpid() == 1 else {
            StandardStreams.complain("hull-runtime template-builder is started by hull-runtime itself")
            exit(1)
        }
        Priority.yieldToAll()
        run {
            // The start that left the wish is to be over, and more of the kind with it.
            try await sleep(for: .seconds(3))
            try await TemplateBuilder(roots: Globals().roots, drivers: Drivers.all).makeWanted()
        }
    }

    /// `template-keeper KEY`: keeps a template awake.
    static func keep(_ key: String) -> Never {
        run {
            // As above.
            try await sleep(for: .seconds(1))
            try await TemplateKeeper(roots: Globals().roots, drivers: Drivers.all).keep(key)
        }
    }

    private static func run(_ body: @escaping @Loop @Sendable () async throws -> Void) -> Never {
        let result: Result<Void, any Error> = Loop.run {
            do { return .success(try await body()) } catch { return .failure(error) }
        }
        if case .failure(let error) = result { StandardStreams.complain("\(error)") }
        exit(0)
    }
}
