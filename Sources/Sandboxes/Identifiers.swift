import Glibc
import LinuxSystem

/// Ranges of host user ids, one for each sandbox: 65,536 for what its share server may own, and one more for its VMM.
enum Identifiers {
    private static let first: UInt32 = 0x1000_0000
    private static let stride: UInt32 = 0x2_0000
    private static let most: UInt32 = 0x7000

    /// Who reserved the range of this file; nil when nobody did.
    static func owner(of file: String) -> String? { readLink(file) }

    /// Takes the lowest free range, notes it in the ledger, and gives its first id.
    @Loop
    static func take(_ roots: Roots, owner: String, _ ledger: Ledger) async throws -> UInt32 {
        try makeDirectories(roots.identifiers)
        let lock = try FileLock.acquire("\(roots.identifiers)/lock")
        defer { withExtendedLifetime(lock) {} }
        for number in 0..<most {
            let file = "\(roots.identifiers)/\(number)"
            if exists(file) { continue }
            try await ledger.hold(.identifiers(file: file, owner: owner)) {
                // A link, because it is made with its content in one call: a kill leaves no half of it.
                try checked("reserve", file) { symlink(owner, file) }
            }
            return first + number * stride
        }
        throw SandboxError(
            "all \(most) ranges of user ids are taken: hull gc frees those of machines that are gone")
    }
}
