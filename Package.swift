// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

/// A library of ours: imports point down only (`Tests/ArchitectureTests` reads them).
func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

/// What is started for every verb has nothing to load and to relocate first, which was half of its start (docs/adr/030).
let whole: [LinkerSetting] = [.unsafeFlags(["-static-executable", "-use-ld=lld"], .when(configuration: .release))]

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: strict)
}

let package = Package(
    name: "hull",
    platforms: [.macOS(.v26)],
    products: [
        .executable(name: "hull", targets: ["hull"]),
        .executable(name: "hull-runtime", targets: ["hull-runtime"]),
        .executable(name: "hull-unpack", targets: ["hull-unpack"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
    ],
    targets: [
        .target(name: "CLinux", cSettings: [.define("_GNU_SOURCE")]),
        .systemLibrary(name: "CArchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),
        .systemLibrary(name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),

        library("LinuxSystem", ["CLinux"]),
        library("Netlink", ["LinuxSystem", "CLinux"]),
        library("OCISpec"),
        library("AgentProtocol"),
        library("StubdomainProtocol"),
        library("AgentClient", ["AgentProtocol", "LinuxSystem"]),
        library("Machines", ["LinuxSystem"]),
        library("MachineProcesses", ["Machines", "LinuxSystem", "CLinux"]),
        library("QEMUDriver", ["Machines", "MachineProcesses", "LinuxSystem", "CLinux", "CSeccomp"]),
        library("XenDriver", ["Machines", "MachineProcesses", "AgentProtocol", "StubdomainProtocol", "LinuxSystem", "CLinux"]),
        library("Kernels", ["StubdomainProtocol", "LinuxSystem", "CLinux"]),
        library("Images", ["OCISpec", "LinuxSystem"]),
        library("Storage", ["LinuxSystem", "CLinux"]),
        library("HostNetwork", ["Netlink", "LinuxSystem"]),
        library("EngineSetup"),
        library(
            "Sandboxes",
            [
                "AgentClient", "AgentProtocol", "HostNetwork", "Images", "Kernels", "LinuxSystem", "Machines", "OCISpec",
                "Storage",
                "CLinux", "CSeccomp",
            ]),

        .executableTarget(
            name: "hull",
            dependencies: [
                "Sandboxes", "QEMUDriver", "XenDriver", "EngineSetup", "HostNetwork", "Images", "Kernels", "LinuxSystem",
                "Machines",
                "Netlink",
                "OCISpec",
                "Storage",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict, linkerSettings: whole),
        // The engines' program: a grammar of its own, over the same modules, quick to start. (Three of its files are links to hull's.)
        .executableTarget(
            name: "hull-runtime",
            dependencies: ["Sandboxes", "QEMUDriver", "XenDriver", "Storage", "LinuxSystem", "Machines", "OCISpec", "CLinux"],
            swiftSettings: strict, linkerSettings: whole),
        // Reads layers somebody else made: a program of its own, so that it can be confined and so that libarchive's
        // libraries stay out of every other start.
        .executableTarget(name: "hull-unpack", dependencies: ["CArchive", "CLinux"], swiftSettings: strict),

        tests("LinuxSystemTests", ["LinuxSystem", "CLinux"]),
        tests("NetlinkTests", ["Netlink", "LinuxSystem"]),
        tests("OCISpecTests", ["OCISpec"]),
        tests("AgentProtocolTests", ["AgentProtocol", "AgentClient", "LinuxSystem"]),
        tests("MachineProcessesTests", ["MachineProcesses", "Machines", "LinuxSystem", "CLinux"]),
        tests("QEMUDriverTests", ["QEMUDriver", "MachineProcesses", "Machines", "Kernels", "LinuxSystem", "CLinux"]),
        tests("StubdomainProtocolTests", ["StubdomainProtocol"]),
        tests("XenDriverTests", ["XenDriver", "Machines", "LinuxSystem"]),
        tests("KernelsTests", ["Kernels", "LinuxSystem", "CLinux"]),
        tests("ImagesTests", ["Images", "Storage", "OCISpec", "LinuxSystem", "hull-unpack"]),
        tests("HostNetworkTests", ["HostNetwork", "Netlink", "LinuxSystem"]),
        tests("SandboxesTests", ["Sandboxes", "HostNetwork", "OCISpec", "LinuxSystem"], exclude: ["Engines"]),
        tests("EngineSetupTests", ["EngineSetup"]),
        tests("StormTests", ["LinuxSystem", "Netlink"]),
        tests("ArchitectureTests", []),
        // Runs real Docker, Podman and containerd over runc and bin/hull-runtime: make build first.
        tests("EngineTests", ["CLinux", "LinuxSystem"]),
        // Runs bin/hull in real machines: make build first.
        tests("IntegrationTests", ["CLinux"]),
    ],
    swiftLanguageModes: [.v6]
)
