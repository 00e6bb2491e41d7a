import Foundation
import Testing

extension IntegrationTests {
    /// The short tier of scripts/test-xen.py: a Dom0 under QEMU's software emulation, and the first of what every driver must do in it. `make test-xen` has the rest.
    @Suite struct XenHost {
        static let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        static let lab =
            "\(ProcessInfo.processInfo.environment["HULL_IMAGES"] ?? here.appending(path: ".build/images").path)/xen/recipe"

        @Test(
            .enabled(if: FileManager.default.fileExists(atPath: lab), "scripts/make-xen-lab.sh made no Xen host: run make images")
        )
        func container() throws {
            // An emulated machine in which machines boot: on a busy host a minute becomes many.
            let images = URL(fileURLWithPath: Self.lab).deletingLastPathComponent().deletingLastPathComponent().path
            let output = try Program(
                [Self.here.appending(path: "scripts/test-xen.py").path, "PV: boot"],
                environment: ["HULL_BIN": Lab.shared.program, "HULL_IMAGES": images]
            ).finish(seconds: 1200)
            #expect(output.code == 0 && output.lines.last == "1 passed, 0 failed", "\(output.text)\(output.errors)")
        }
    }
}
