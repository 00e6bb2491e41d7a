import Foundation
import Testing

extension IntegrationTests {
    /// What programs ask of a file system, on a bind mount and on the root: `Tests/Programs/files.c` runs in the container.
    @Suite struct Files {
        let lab = Lab.shared
        /// More than Debian 12's old virtiofsd has descriptors for; with HULL_LONG a hundred thousand.
        static let count = ProcessInfo.processInfo.environment["HULL_LONG"] == nil ? 25_000 : 100_000

        @Test func whatProgramsAsk() throws {
            let tools = try lab.scratch("tools"), bind = try lab.scratch("files")
            try lab.compile("files", to: "\(tools)/files")
            for (folder, count) in [("/b", Self.count), ("/root", 1000)] {
                let output = try lab.hull(
                    [
                        "run", "--rm", "--network", "none", "-v", "\(tools):/tools:ro", "-v", "\(bind):/b",
                        lab.image,
                        "/tools/files", folder, "\(count)",
                    ], seconds: 900)
                #expect(output.code == 0 && output.lines.count == 11, "\(folder): \(output.text) \(output.errors)")
            }
            // As the host sees it.
            let owned = try lab.host("stat", "-c", "%u %g %a %Y", "\(bind)/owned").text
            #expect(owned == "123 456 4751 1100000000\n")
            #expect(
                try lab.host("stat", "-c", "%h %F", "\(bind)/hard", "\(bind)/pipe", "\(bind)/socket").text
                    == "2 regular file\n1 fifo\n1 socket\n")
            #expect(
                try lab.host(
                    "python3", "-c", "import os,sys; print(os.getxattr(sys.argv[1], 'user.hull').decode())", "\(bind)/owned"
                ).text == "value\n")
            let mapped = try Data(contentsOf: URL(fileURLWithPath: "\(bind)/mapped"))
            #expect(mapped.count == 1 << 20 && mapped[0] == UInt8(ascii: "Z") && mapped[4096] == UInt8(ascii: "b"))
        }
    }
}
