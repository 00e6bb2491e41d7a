import LinuxSystem
import Netlink

/// Runs nft(8) in a network namespace.
struct Firewall: Sendable {
    /// Nil is the process's own.
    var namespace: NetworkNamespace?

    private static let program = HostProgram.path("nft")

    /// Applies a script, whole or not at all.
    @Loop
    func apply(_ script: String) async throws {
        let output = try await run(["-f", "-"], input: script)
        guard output.status.isSuccess else {
            throw HostNetworkError(.firewall, "nft refused Hull's rules: \(output.complaint)")
        }
    }

    /// What nft prints; nil when it fails, e.g. because the thing is not there.
    @Loop
    func ask(_ arguments: [String]) async throws -> String? {
        let output = try await run(arguments)
        return output.status.isSuccess ? String(decoding: output.standardOutput, as: UTF8.self) : nil
    }

    @Loop
    private func run(_ arguments: [String], input: String = "") async throws -> Output {
        guard let program = Self.program else {
            throw HostNetworkError(
                .firewall, "set up the network: nft is missing; install the package nftables, or use --network none")
        }
        var nft = Spawn(program, arguments)
        nft.networkNamespace = namespace?.descriptor
        let command = nft
        return try await withDeadline(.seconds(30), awaiting: "the end of nft") {
            try await command.run(input: Array(input.utf8))
        }
    }
}
