import LinuxSystem

/// Some things at once, but not all: two cores start three machines in the time of two.
enum Crowd {
    @Loop static func each<T: Sendable>(
        _ items: [T], atOnce: Int, _ body: @escaping @Loop @Sendable (T) async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, item) in items.enumerated() {
                if index >= atOnce { try await group.next() }
                group.addTask { try await body(item) }
            }
            try await group.waitForAll()
        }
    }
}
