import ArgumentParser
import Sandboxes

struct Rm: Verb {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove containers.")

    @Flag(name: .shortAndLong, help: "Kill those that run; one that is not there is no error.")
    var force = false
    @Flag(name: [.customShort("v"), .long], help: "Remove their anonymous volumes too.") var volumes =
        false
    @Argument(help: "Names or ids.") var containers: [String]

    func perform() async throws -> Int32 {
        let store = try await openStore()
        return try await ForEach.container(containers) { reference in
            let container: Container
            do {
                container = try store.find(reference)
            } catch let error as SandboxError where force {
                if try await Removal(store).removeUnreadable(reference) {
                    print(reference)
                    return 0
                }
                guard error.sentence.hasPrefix("No such container") else { throw error }
                Complaint.remark("\(error)")
                return 0
            }
            try container.checkOwner("remove")
            try await Removal(store).remove(container, force: force, volumes: volumes)
            print(reference)
            return 0
        }
    }
}
