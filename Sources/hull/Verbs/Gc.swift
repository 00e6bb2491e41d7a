import ArgumentParser
import Images
import Sandboxes

struct Gc: Verb {
    static let configuration = CommandConfiguration(
        commandName: "gc",
        abstract: "Take back what killed processes left, and image content that nothing names.")

    func perform() async throws -> Int32 {
        let store = try await openStore()
        let freed = try store.imageStore().collectGarbage()
        print("Total reclaimed space: \(ByteCount.format(UInt64(max(0, freed))))")
        return 0
    }
}
