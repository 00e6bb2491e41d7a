import Glibc
import Images
import Sandboxes

extension ContainerStore {
    /// The image store beside the containers, with the user's environment for registries.
    func imageStore() throws -> ImageStore {
        var variables: [String] = []
        for name in ImageTools.environmentNames.sorted() {
            if let value = Globals.environment(name) { variables.append("\(name)=\(value)") }
        }
        return try ImageStore(root: roots.images, tools: ImageTools(environment: variables))
    }
}
