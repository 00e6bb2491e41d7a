import Foundation
import Testing

/// Waits until `holds`, asking again every `pause` seconds: how soon is another process's affair. Where it does not hold within `seconds`, the
/// test fails, and says what was waited for.
func eventually(
    _ what: @autoclosure () -> String, within seconds: Double, every pause: Double = 0.1,
    _ place: SourceLocation = #_sourceLocation, _ holds: () throws -> Bool
) throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while try !holds() {
        if ContinuousClock.now > end {
            Issue.record("not within \(seconds) seconds: \(what())", sourceLocation: place)
            return
        }
        usleep(UInt32(pause * 1_000_000))
    }
}
