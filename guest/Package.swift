// swift-tools-version: 6.2
import PackageDescription

// Embedded Swift needs `-wmo`. The final link (static, with the toolchain's embedded Unicode tables) is done by
// `build.sh`, which asks the compiler where its resources are: a manifest may not run it.
let embedded: [SwiftSetting] = [
    .enableExperimentalFeature("Embedded"),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .unsafeFlags(["-wmo", "-Osize", "-Xfrontend", "-function-sections"]),
]

let package = Package(
    name: "hull-guest",
    products: [
        .executable(name: "hull-init", targets: ["hull-init"]),
        .executable(name: "hull-stub-init", targets: ["hull-stub-init"]),
    ],
    targets: [
        .target(name: "CGuest", cSettings: [.unsafeFlags(["-Os", "-ffunction-sections", "-fno-asynchronous-unwind-tables"])]),
        .target(name: "AgentProtocol", swiftSettings: embedded),
        .target(name: "StubdomainProtocol", swiftSettings: embedded),
        .executableTarget(
            name: "hull-stub-init", dependencies: ["StubdomainProtocol", "AgentProtocol", "CGuest"], swiftSettings: embedded),
        .executableTarget(name: "hull-init", dependencies: ["AgentProtocol", "CGuest"], swiftSettings: embedded),
    ],
    swiftLanguageModes: [.v6]
)
