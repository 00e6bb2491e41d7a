import LinuxSystem

/// Descriptors that came with a request, until somebody takes them. Whoever only passes them on must not keep them: a verb that is
/// killed lets go of its streams, and so must we.
@Loop
final class HandedDescriptors {
    private var list: [SharedDescriptor]

    init(_ list: [SharedDescriptor]) { self.list = list }

    /// Gives them away, once.
    func take() -> [SharedDescriptor] {
        defer { list = [] }
        return list
    }
}

extension Channel {
    /// The next request, with its descriptors; nil at the end of the connection.
    @Loop
    func nextRequest() async throws -> (Request, HandedDescriptors)? {
        guard let (request, descriptors) = try await receive(Request.self) else { return nil }
        return (request, HandedDescriptors(descriptors))
    }
}
