import ArgumentParser
import Sandboxes

struct Wait: ContainersVerb {
    static let configuration = CommandConfiguration(
        commandName: "wait",
        abstract: "Wait for containers to end, and print their exit codes.")

    @Argument(help: "Names or ids.") var containers: [String]

    func perform() async throws -> Int32 {
        let store = try await openStore()
        return try await ForEach.container(containers) { reference in
            let container = try store.find(reference)
            if case .exited(let exit) = container.state.status {
                await Ending(store, container).released()
                print(exit.code)
                return 0
            }
            print(try await Ending(store, container).wait())
            return 0
        }
    }
}
