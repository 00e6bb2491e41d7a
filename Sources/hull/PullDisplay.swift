import Glibc
import Images
import OCISpec
import LinuxSystem
import Sandboxes

/// What a pull shows on standard error: bars on a terminal, lines elsewhere, nothing when quiet.
struct PullDisplay: Sendable {
    var quiet: Bool

    /// For `ImageStore.resolve`.
    var callback: PullProgress? {
        if quiet { return nil }
        let terminal = isatty(2) == 1
        return { event in Self.show(event, terminal: terminal) }
    }

    private static func show(_ event: PullEvent, terminal: Bool) {
        switch event {
        case .pulling(let name, let layers):
            let missing = layers.filter { !$0.isHere }
            line(
                "Pulling \(name): \(layers.count) layers, \(missing.count) to fetch (\(ByteCount.format(UInt64(max(0, missing.reduce(0) { $0 + $1.size })))))"
            )
        case .layer(let digest, let phase, _, let total):
            if phase == .fetched || phase == .unpacked, !terminal {
                line(
                    "\(digest.description.dropFirst(7).prefix(12)): \(phase.rawValue) \(ByteCount.format(UInt64(max(0, total))))"
                )
            }
        case .fetched(let bytes, let total): if terminal { bar("Fetching", bytes, total) }
        case .building: line("Building the root image")
        case .note(let sentence): line(sentence)
        case .done(let id, _, let fresh):
            if fresh { line("Image \(id.description.dropFirst(7).prefix(12)) is ready") }
        }
    }

    private static func line(_ text: String) {
        StandardStreams.complain("\(isatty(2) == 1 ? "\r\u{1B}[K" : "")\(text)")
    }

    private static func bar(_ what: String, _ bytes: Int64, _ total: Int64) {
        let width = 30
        let filled = total > 0 ? Int(Double(width) * min(1, Double(bytes) / Double(total))) : 0
        let amount =
            "\(ByteCount.format(UInt64(max(0, bytes))))\(total > 0 ? " of \(ByteCount.format(UInt64(total)))" : "")"
        let text =
            "\r\u{1B}[K\(what) [\(String(repeating: "=", count: filled))\(String(repeating: " ", count: width - filled))] \(amount)"
        StandardStreams.write(2, Array(text.utf8))
    }
}
