import LinuxSystem
import Sandboxes

/// Verbs that take several containers: each is done, failures are told one by one, and the exit code is 1 if any failed.
enum ForEach {
    @Loop static func container(_ references: [String], _ body: (String) async throws -> Int32)
        async throws -> Int32
    {
        if references.count == 1 { return try await body(references[0]) }
        var code: Int32 = 0
        for reference in references {
            do {
                code = max(code, try await body(reference))
            } catch {
                Complaint.remark("\(error)")
                code = 1
            }
        }
        return code
    }

    /// The same for what has no code of its own: what was named is printed when it is done.
    @Loop static func printed(_ references: [String], _ body: (String) async throws -> Void) async throws -> Int32 {
        try await container(references) { reference in
            try await body(reference)
            print(reference)
            return 0
        }
    }

    /// Asks each monitor, and prints the name of each that did it.
    @Loop static func ask(_ verb: Request.Verb, of containers: [String], in store: ContainerStore) async throws -> Int32 {
        try await printed(containers) { reference in
            let client = try MonitorClient(to: try store.find(reference))
            try await client.ask(verb)
            try await client.expectDone()
        }
    }
}
