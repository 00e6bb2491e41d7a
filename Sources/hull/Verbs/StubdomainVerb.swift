import ArgumentParser
import Kernels
import LinuxSystem
import Sandboxes

/// Images of the domains that device models run in.
struct StubdomainVerb: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stubdomain",
        abstract: "What QEMU runs in beside a Xen domain with emulated hardware.",
        discussion: """
            With --machine hvm, Xen's device model, QEMU, runs in a small domain of its own instead of the Dom0. \
            hull stubdomain build makes the image of it: a kernel, and Debian's QEMU for Xen with what it needs.
            """,
        subcommands: [List.self, Build.self, Remove.self])

    struct List: Verb {
        static let configuration = CommandConfiguration(commandName: "ls", abstract: "List images.")
        @Flag(name: .shortAndLong, help: "Only names.") var quiet = false
        @Option(name: .long, help: "json, or a template.") var format: String?

        func perform() async throws -> Int32 {
            let entries = try await openStore().roots.stubdomains.entries()
            let rows = entries.enumerated().map { index, one in
                [
                    "Name": one.name, "Release": one.release, "Source": one.source, "Size": ByteCount.format(one.bytes),
                    "Bytes": "\(one.bytes)", "Created": Timestamp(nanoseconds: Int64(one.built) * 1_000_000_000).rfc3339,
                    "Used": index == 0 ? "yes" : "",
                ]
            }
            try Table(
                columns: [
                    .init(key: "Name", title: "STUBDOMAIN"), .init(key: "Release", title: "KERNEL"),
                    .init(key: "Source", title: "SOURCE"), .init(key: "Size", title: "SIZE"),
                    .init(key: "Created", title: "CREATED"), .init(key: "Used", title: "USED"),
                ], rows: rows
            ).print(format: format, quiet: quiet, quietKey: "Name")
            return 0
        }
    }

    struct Build: Verb {
        static let configuration = CommandConfiguration(
            commandName: "build",
            abstract: "Make an image from Debian's packages, installed or downloaded.",
            discussion: "Machines that start from now on get it. Prints its name.")
        @Option(name: .long, help: "Its kernel: a name of hull kernel ls, or a path (default: the one that guests get).")
        var kernel: String?
        @Flag(name: .shortAndLong, help: "Say nothing but the name.") var quiet = false
        @Argument(help: "Its name; an older image of that name is replaced.") var name = "qemu"

        func perform() async throws -> Int32 {
            let roots = try await openStore().roots
            let kernels = KernelStore(cache: roots.cache, library: roots.kernels)
            let build = StubdomainBuild(name: name, program: Companion.path("hull-stub-init"))
            try await build.run(into: roots.stubdomains, kernels, kernel: try await kernels.kernel(kernel)) { line in
                if !quiet { Complaint.remark(line) }
            }
            print(name)
            return 0
        }
    }

    struct Remove: Verb {
        static let configuration = CommandConfiguration(
            commandName: "rm", abstract: "Remove images; domains that run from them go on.")
        @Argument(help: "Names.") var names: [String]

        func perform() async throws -> Int32 {
            let library = try await openStore().roots.stubdomains
            return try await ForEach.printed(names) { try library.remove($0) }
        }
    }
}
