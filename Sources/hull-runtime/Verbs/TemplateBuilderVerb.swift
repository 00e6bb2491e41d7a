import Glibc
import LinuxSystem
import Sandboxes

/// `template-builder`: makes the templates that starts found missing. Hull starts it itself, in namespaces of its own.
enum TemplateBuilderVerb {
    static func main() -> Never {
        guard getpid() == 1 else {
            StandardStreams.complain("hull-runtime template-builder is started by hull-runtime itself")
            exit(1)
        }
        Priority.yieldToAll()
        let roots = Globals().roots
        let result: Result<Void, any Error> = Loop.run {
            do {
                // The start that left the wish is to be over, and more of the kind with it.
                try await sleep(for: .seconds(3))
                return .success(try await TemplateBuilder(roots: roots, drivers: Drivers.all).makeWanted())
            } catch { return .failure(error) }
        }
        if case .failure(let error) = result { StandardStreams.complain("\(error)") }
        exit(0)
    }
}
