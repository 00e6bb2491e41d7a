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
}
