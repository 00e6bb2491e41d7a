import Foundation
import Testing

extension IntegrationTests {
    /// What every driver must do (scripts/conformance.py), here with QEMU. scripts/test-xen.py asks it of domains.
    @Suite struct Conformance {
        @Test func qemu() throws {
            let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent().appending(path: "scripts/conformance.py").path
            let images = URL(fileURLWithPath: String(Lab.shared.image.dropFirst("oci-archive:".count)))
                .deletingLastPathComponent()
            let output = try Program([script], environment: ["HULL_BIN": Lab.shared.program, "HULL_IMAGES": images.path])
                .finish(seconds: 1200)
            #expect(output.code == 0, "\(output.text)\(output.errors)")
        }
    }
}
