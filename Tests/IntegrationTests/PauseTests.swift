import Foundation
import Testing

extension IntegrationTests {
    /// Containers that stand still with their machines.
    @Suite struct Pause {
        let lab = Lab.shared

        @Test func nothingRunsWhilePaused() throws {
            defer { _ = try? lab.hull("rm", "-f", "still") }
            try lab.good(
                "run", "-d", "--name", "still", "--network", "none", lab.image, "sh", "-c", "while true; do echo; sleep 0.1; done"
            )
            #expect(try lab.hull("unpause", "still").errors.contains("is not paused"))
            #expect(try lab.good("pause", "still").word == "still")
            let state = try lab.state("still")
            #expect(
                state["Status"] as? String == "paused" && state["Paused"] as? Bool == true && state["Running"] as? Bool == true)
            #expect(try lab.good("ps", "--filter", "name=still").text.contains("(Paused)"))
            for refused in [["pause", "still"], ["exec", "still", "true"], ["kill", "-s", "USR1", "still"], ["top", "still"]] {
                let output = try lab.hull(refused)
                #expect(output.code == 1 && output.errors.contains("paused"), "\(refused): \(output.errors)")
            }
            let before = try lab.good("logs", "still").bytes.count
            usleep(1_500_000)
            #expect(try lab.good("logs", "still").bytes.count == before)
            try lab.good("unpause", "still")
            #expect(try lab.state("still")["Status"] as? String == "running")
            // Its clock stood still too, and is right again.
            var off = Double.infinity
            try eventually("its clock is right, and not \(off) seconds off", within: 10, every: 0) {
                off = abs(Double(try lab.good("exec", "still", "date", "+%s").word)! - Date().timeIntervalSince1970)
                return off <= 1.5
            }
            try eventually("it writes on", within: 30) { try lab.good("logs", "still").bytes.count > before }
        }

        @Test func whatIsPausedCanBeEnded() throws {
            for end in [["stop", "-t", "1", "frozen"], ["kill", "frozen"], ["rm", "-f", "frozen"]] {
                try lab.good("run", "-d", "--name", "frozen", "--network", "none", lab.image, "sleep", "infinity")
                defer { _ = try? lab.hull("rm", "-f", "frozen") }
                try lab.good("pause", "frozen")
                let output = try lab.hull(end)
                #expect(output.code == 0, "\(end): \(output.errors)")
            }
        }
    }
}
